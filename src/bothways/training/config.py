"""The settings of a training, for every task that trains: how long and how fast, on what, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from bothways.configs import Config, chosen, merged, setting
from bothways.types import UserError


class FitConfig(Config):
    """How long and how fast a network is trained.

    The rate rises linearly over the share ``warmup`` of the steps, then the schedule takes it on. After n steps the
    average's decay is at most (1 + n) / (10 + n), so that a short training does not keep its first weights.
    Source of Muon: arXiv 2502.16982.
    """

    steps: int | None = setting(None, "training steps; or --epochs", ge=1, common=True)
    epochs: int | None = setting(None, "times every picture is seen, in place of steps", ge=1, common=True)
    batch: int = setting(128, "pictures of a step, over all processes", ge=1, common=True)
    optimizer: Literal["sgd", "adamw", "muon"] = setting(
        "adamw",
        "sgd (Nesterov momentum), adamw (Adam, without weight decay), or muon (matrices by Muon, the rest by AdamW)",
    )
    rate: float = setting(1e-3, "peak learning rate", gt=0, common=True)
    betas: tuple[float, float] = setting((0.9, 0.999), "of AdamW")
    weight_decay: float = setting(0.0, "of the optimiser", ge=0)
    warmup: float = setting(0.05, "share of the steps in which the rate rises", ge=0, le=1)
    schedule: chosen("schedule") = setting("cosine", "how the rate goes on then")  # type: ignore[valid-type]
    average: float = setting(
        0.999,
        "decay of the exponential moving average of the weights that is kept, less in a short run; 0 for none",
        ge=0,
        lt=1,
    )
    clip: float = setting(1.0, "largest norm of the gradient; 0 for any", ge=0)
    bf16: bool = setting(False, "the network computes in bfloat16", flags=("--bf16/--no-bf16",))

    def resolved(self, pictures: int, batch: int | None = None) -> FitConfig:
        """These settings with the number of steps, of epochs of so many pictures, in batches of another size if given.

        Raises UserError where neither steps nor epochs are given.
        """
        batch = batch or self.batch
        if self.steps is None and self.epochs is None:
            raise UserError("the recipe has neither steps nor epochs; type --epochs 20, or [fit] and steps = 5000")
        steps = self.steps or (self.epochs or 0) * (pictures // batch)
        return self.model_copy(update={"steps": steps, "epochs": None, "batch": batch})

    @property
    def total(self) -> int:
        """Steps of the whole training, once they are resolved."""
        assert self.steps is not None
        return self.steps


class RunConfig(Config):
    """How a training is run; nothing of this changes what is learnt."""

    device: str = setting("cpu", "cpu, cuda, mps")
    workers: int = setting(1, "processes that make batches ahead of the steps", ge=0)
    save_every: int = setting(500, "steps between two checkpoints", ge=1)
    tensorboard: bool = setting(False, "write RUN/tensorboard too")


class HoldoutConfig(Config):
    """The pictures that are not trained on."""

    validation: int = setting(500, "pictures held out of the training ones", ge=2, common=True)


class FlowHoldoutConfig(HoldoutConfig):
    """The pictures that a flow is not trained on, and what is measured on them along the training."""

    information: int = setting(
        0, "pictures held out on which mutual information is measured at every checkpoint; 0 for none", ge=0
    )


class AugmentationConfig(Config):
    """What a training picture goes through, and nothing besides."""

    crop: int = setting(0, "pixels of padding before a crop")
    flip: bool = setting(False, "mirror half of the pictures", flags=("--flip/--no-flip",))
    blur: float = setting(0.0, "share of the pictures that is blurred")
    noise: float = setting(0.0, "share of the pictures that noise is put on")
    noise_level: float = setting(0.1, "largest standard deviation of that noise")
    erase: int = setting(0, "side of a grey square in pixels, 0 for none")


class TrainingConfig(Config):
    """What the settings of all tasks that train have in common."""

    writes: ClassVar[bool] = True

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Of steps and epochs, what is given replaces what the recipe has."""
        return merged(one_of(recipe, changes, "fit", "steps", "epochs"), changes)


def one_of(recipe: Mapping[str, Any], changes: Mapping[str, Any], table: str, one: str, other: str) -> dict[str, Any]:
    """The recipe without both of two settings of a table ("" for the top) where one of them is given.

    Raises UserError where both are.
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
