"""Settings shared by all training tasks: optimisation, run, holdout and augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from bothways.configs import Config, chosen, merged, setting
from bothways.types import UserError


def _split(given: Any) -> Any:
    """ "a,b" or ["a,b", "c"] as ["a", "b", "c"]."""
    words = [given] if isinstance(given, str) else given
    listed = isinstance(words, list | tuple) and all(isinstance(word, str) for word in words)
    return [part for word in words for part in word.split(",")] if listed else given


class FitConfig(Config):
    """Optimisation settings: steps, batch, optimiser, learning-rate schedule, EMA and clipping.

    The rate rises linearly over the share ``warmup`` of the steps, then follows the schedule from its peak to
    ``rate_floor`` times the peak. After n steps the EMA
    decay is at most (1 + n) / (10 + n), so that a short training does not retain its initial weights.
    Source of Muon: arXiv 2502.16982.
    """

    steps: int | None = setting(None, "training steps; or --epochs", ge=1, common=True)
    epochs: int | None = setting(None, "training epochs, instead of steps", ge=1, common=True)
    batch: int = setting(128, "batch size, over all processes", ge=1, common=True)
    optimizer: Literal["sgd", "adamw", "muon"] = setting(
        "adamw",
        "optimiser: sgd (Nesterov momentum), adamw, or muon (Muon for matrices, AdamW for the rest)",
    )
    rate: float = setting(1e-3, "peak learning rate", gt=0, common=True)
    betas: tuple[float, float] = setting((0.9, 0.999), "betas of AdamW")
    weight_decay: float = setting(0.0, "weight decay of the optimiser", ge=0)
    warmup: float = setting(0.05, "share of the steps for linear learning-rate warm-up", ge=0, le=1)
    schedule: chosen("schedule") = setting("cosine", "learning-rate schedule after warm-up")  # type: ignore[valid-type]
    rate_floor: float = setting(
        0.0, "share of the peak learning rate at the end of the schedule, which falls to it and not to 0", ge=0, le=1
    )
    average: float = setting(
        0.999,
        "decay of the exponential moving average (EMA) of the weights, less in a short run; 0 for none",
        ge=0,
        lt=1,
    )
    clip: float = setting(1.0, "gradient clipping: largest norm; 0 for none", ge=0)
    bf16: bool = setting(False, "bfloat16 autocast", flags=("--bf16/--no-bf16",))
    accumulate: int = setting(
        1, "equal parts of a batch that are computed one after another: the same step in less memory", ge=1
    )

    compile: bool = setting(False, "compile the network (of a classifier made of a flow, the flow's) by torch.compile")

    def resolved(self, pictures: int, batch: int | None = None) -> FitConfig:
        """A copy with the number of steps, from epochs over ``pictures`` if needed, and with ``batch`` if given.

        Raises UserError if neither steps nor epochs are set.
        """
        batch = batch or self.batch
        if self.steps is None and self.epochs is None:
            raise UserError("the recipe has neither steps nor epochs; type --epochs 20, or [fit] and steps = 5000")
        self.check_parts(batch)
        steps = self.steps or (self.epochs or 0) * (pictures // batch)
        return self.model_copy(update={"steps": steps, "epochs": None, "batch": batch})

    def check_parts(self, batch: int, option: str = "--batch") -> None:
        """Raise UserError for a batch that does not fall into equal parts."""
        if batch % self.accumulate:
            near = max(1, batch // self.accumulate) * self.accumulate
            raise UserError(f"accumulate={self.accumulate} does not divide {option} {batch}; type {option} {near}")

    @property
    def total(self) -> int:
        """Total number of steps of a resolved config."""
        assert self.steps is not None
        return self.steps


class RunConfig(Config):
    """Settings of a training run that do not affect the result."""

    device: str = setting("cpu", "device: cpu, cuda, mps")
    workers: int = setting(1, "processes that prefetch batches", ge=0)
    in_memory: float = setting(
        2.0, "GB of decoded pictures that are held in memory; of more, each is decoded as it is needed", ge=0
    )
    save_every: int = setting(500, "steps between checkpoints", ge=1)
    tensorboard: bool = setting(False, "also write TensorBoard logs to RUN/tensorboard, as --track tensorboard")
    track: Annotated[tuple[Literal["tensorboard", "wandb"], ...], BeforeValidator(_split)] = setting(
        (),
        "also write the numbers of every step for tensorboard, wandb (Weights & Biases, offline unless WANDB_MODE says "
        "otherwise), or tensorboard,wandb",
    )
    fsdp: bool = setting(False, "of several processes (torchrun): each keeps a share of the weights, by FSDP")

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers, each once."""
        return tuple(dict.fromkeys((*self.track, *(["tensorboard"] if self.tensorboard else []))))


class FlowRunConfig(RunConfig):
    """Settings of the run of a flow that do not affect the result."""

    keep_every: int = setting(
        0, "steps between copies of the weights that are kept, in RUN/step-N, each an address; 0 for none", ge=0
    )
    keep_best: bool = setting(
        False,
        "keep a copy of the weights that are best on the held-out pictures, in RUN/best, an address: of a flow by its "
        "loss at every checkpoint, of a classifier by its accuracy",
    )


class HoldoutConfig(Config):
    """The holdout: training pictures kept for validation."""

    validation: int = setting(500, "training pictures held out for validation", ge=2, common=True)


class FlowHoldoutConfig(HoldoutConfig):
    """The holdout of a flow, and what is measured on it during training."""

    information: int = setting(
        0, "held-out pictures for a bound on mutual information (I-MMSE) at every checkpoint; 0 for none", ge=0
    )
    given_noise: int = setting(
        0, "held-out pictures for log p(picture | its noise), PRG's indicator, at every checkpoint; 0 for none", ge=0
    )


class AugmentationConfig(Config):
    """Augmentation of training pictures."""

    crop: float = setting(0, "random crop after padding by so much (share of the side or pixels)", ge=0)
    flip: bool = setting(False, "mirror half of the pictures", flags=("--flip/--no-flip",))
    blur: float = setting(0.0, "share of the pictures with a 3x3 blur")
    noise: float = setting(0.0, "share of the pictures with Gaussian noise")
    noise_level: float = setting(0.1, "largest standard deviation of that noise")
    erase: int = setting(0, "side of a grey square in pixels, 0 for none")


class FlowAugmentationConfig(AugmentationConfig):
    """Augmentation of the pictures of a flow: the plain one, then that of a classifier's training."""

    strength: float = setting(0.0, "magnitude of RandAugment, 0 to 10; 0 for none")
    operations: int = setting(2, "number of RandAugment operations per picture")
    erase_chance: float = setting(0.0, "probability of random erasing (a rectangle of noise)")


class TrainingConfig(Config):
    """Settings shared by all tasks that train."""

    writes: ClassVar[bool] = True
    prolongs: ClassVar[tuple[str, ...]] = ("fit.steps", "fit.epochs")

    @classmethod
    def given_again(cls, before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """As ``merged``: steps that are given now replace the epochs of before."""
        return cls.merged(before, changes)

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Merge changes into a recipe; a changed number of steps replaces epochs, and the other way round."""
        return merged(drop_alternative(recipe, changes, "fit", "steps", "epochs"), changes)


def drop_alternative(
    recipe: Mapping[str, Any], changes: Mapping[str, Any], table: str, one: str, other: str
) -> dict[str, Any]:
    """Drop the recipe's value of the other of two exclusive settings of a table ("" for the top) if one is changed.

    Raises UserError if both are changed.
    """
    given = changes.get(table, {}) if table else changes
    own = recipe.get(table, {}) if table else recipe
    if not (isinstance(given, Mapping) and isinstance(own, Mapping)):
        return dict(recipe)
    if one in given and other in given:
        raise UserError(f"{one}={given[one]!r} and {other}={given[other]!r} contradict each other; give one")
    if one not in given and other not in given:
        return dict(recipe)
    dropped = other if one in given else one
    kept = {key: value for key, value in own.items() if key != dropped}
    return {**recipe, table: kept} if table else kept
