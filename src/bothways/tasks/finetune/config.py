"""The settings of ``finetune``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, TypeAdapter, ValidationError, model_validator

from bothways.configs import Config, Live, Shortcut, chosen, merged, setting
from bothways.data.config import READ
from bothways.registry import register
from bothways.representation.tuning.config import tune_of
from bothways.training.config import FitConfig, FlowHoldoutConfig, FlowRunConfig, TrainingConfig
from bothways.types import UserError

FLAG = TypeAdapter(bool)
NAMES = {"mse": "mean squared error", "r2": "R2", "mae": "mean absolute error", "map": "mAP", "auroc": "AUROC"}
"""Of the scores of numbers and of several labels."""


def titled(name: str) -> str:
    """The title of a score in a sweep."""
    return f"{name.capitalize() if name.islower() else name} on held-out pictures"


Table = Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, Path) else given)]
"""Type of a field that names a CSV; from Python a path, too."""


class FeaturesConfig(Config):
    """The features of a picture that the head reads, and the head."""

    kind: Literal["walked", "activations", "both", "pixels"] = setting(
        "walked",
        "features that the head reads: walked (the picture walked to a depth), activations (of a layer of the flow), "
        "both, or pixels (control without the flow)",
        common=True,
    )
    depth: float | None = setting(
        None, "depth, 0 (picture) to 1 (noise); if unset, .5 walked, .1 activations", ge=0, le=1, common=True
    )
    steps: int = setting(5, "solver steps of the walk", ge=1, common=True)
    solver: chosen("solver") = setting("euler", "ODE solver of the walk")  # type: ignore[valid-type]
    gradient: Literal["exact", "direct", "adjoint"] = setting(
        "exact", "gradient of the walk: exact (little memory), direct (much memory), adjoint (torchdiffeq)"
    )
    layer: str | None = setting(None, "layer of the activations; if unset, the middle of a bothways U-Net")
    activation_depth: float | None = setting(
        None, "depth of the activations if it differs from that of the walk; if unset, .1", ge=0, le=1
    )
    noised: bool = setting(
        False, "read the activations of the picture with the noise of its depth added", flags=("--noised/--clean",)
    )
    head: chosen("head") = setting("prg", "classification head")  # type: ignore[valid-type]

    def choices(self) -> Iterator[tuple[str, Any]]:
        """Without the solver where nothing is walked."""
        walks = self.kind in ("walked", "both")
        return (choice for choice in super().choices() if walks or choice[0] != "solver")

    @property
    def reads_activations(self) -> bool:
        return self.kind in ("activations", "both")

    @property
    def walk_depth(self) -> float:
        return 0.5 if self.depth is None else self.depth

    @property
    def read_depth(self) -> float:
        """The depth at which the activations are read."""
        own = self.depth if self.kind == "activations" and self.activation_depth is None else self.activation_depth
        return 0.1 if own is None else own


class ClassifierLossConfig(Config):
    """The loss: cross-entropy plus the weighted flow-matching loss."""

    class_weights: Table | None = setting(
        None, "weights of the classes in the loss: balanced, or a CSV with columns class,weight; scaled to mean 1"
    )
    label_smoothing: float = setting(0.0, "label smoothing: share of the target spread over all classes", ge=0, lt=1)
    beta: float | None = setting(
        None, "weight of the flow-matching loss (cross-entropy: a mean); if unset, 1, or 0 if frozen", ge=0, common=True
    )
    flow_batch: int | None = setting(
        None, "pictures per step for the flow-matching loss; if unset, the batch size", ge=1
    )
    coupling: chosen("coupling") | None = setting(  # type: ignore[valid-type]
        None, "coupling in the flow-matching loss (if unset, that of the flow's training)"
    )


class StrongAugmentationConfig(Config):
    """The augmentation of the training pictures."""

    crop: float = setting(0, "random crop after padding by so much (share of the side or pixels)", ge=0)
    flip: bool | None = setting(
        None,
        "mirror half of the pictures; if unset, unless the classes are digits or letters by their names",
        flags=("--flip/--no-flip",),
    )
    strength: float = setting(0.0, "magnitude of RandAugment, 0 to 10; 0 for none")
    operations: int = setting(2, "number of RandAugment operations per picture")
    erase: float = setting(0.0, "probability of random erasing (a rectangle of noise)")
    mixup: float = setting(0.0, "mixup: a of Beta(a, a) for the share of each of two pictures; 0 for none", ge=0)
    cutmix: float = setting(0.0, "cutmix: a of Beta(a, a) for the area kept of each picture; 0 for none", ge=0)


class FinetuneFitConfig(FitConfig):
    """The optimisation, with layer-wise learning-rate decay."""

    steps: int | None = setting(None, "training steps; or --epochs", ge=1, flags=("--train-steps",), common=True)
    layer_decay: float = setting(
        1.0, "factor on the learning rate from each block of the flow to the one below it", gt=0, le=1
    )
    strict_batch: bool = setting(
        False, "raise an error if the batch exceeds the data instead of shrinking it", live=True, exclude=True
    )
    checkpoint_activations: bool = setting(
        False, "compute the activations of each block of the flow again in the backward pass: less memory, more time"
    )
    patience: int = setting(
        0, "checkpoints (--save-every steps) without a lower loss on held-out pictures, after which training ends and "
        "the best weights are kept; 0 for none", ge=0,
    )  # fmt: skip
    half: bool = setting(False, "store the weights in half precision", flags=("--half/--no-half",))


class FinetuneRunConfig(FlowRunConfig):
    """The run, and how often the accuracy on the held-out pictures is measured during it."""

    accuracy_every: int = setting(
        0, "steps between measurements of the accuracy on the held-out pictures; 0 for none before the end", ge=0
    )


class LabelledHoldoutConfig(FlowHoldoutConfig):
    """The held-out pictures, and the number of labelled training pictures."""

    labels: int | None = setting(None, "labelled training pictures, balanced; if unset, all", ge=1, common=True)


@register("task", "finetune", help="Train a classifier head on walked pictures or a flow's activations.")
class FinetuneConfig(TrainingConfig):
    """Train a classifier head on pictures walked towards noise or on the flow's activations, with the flow.

    loss = cross-entropy(head(f(x)), label) + beta L_FM,   f: x walked to a depth, the flow's activations, or both

    The run folder holds classifier.json and classifier.safetensors, the loss of every step, the accuracy on held-out
    pictures, and report.html. bothways.load_classifier(RUN) loads the classifier as a model.

    Source: PRG, Xue et al. 2024, arXiv 2412.01787, eq. 3.

    Examples
    bothways finetune runs/digits --data digits --depth 0.5 --steps 5
    bothways finetune runs/flow --data path/to/pictures --kind activations --labels 500 --batch 50
    bothways finetune runs/flow --data path/to/pictures --fresh --out runs/control
    bothways finetune runs/flow --data path/to/pictures --head my.py:deep
    bothways finetune runs/flow --data faces/ --labels-csv ages.csv --target regression
    bothways finetune runs/flow --data path/to/pictures --tune lora:8 --accumulate 4
    """

    gives: ClassVar[str] = "a Finetuned: the model, with averaged weights, frames, folder and measures"
    recipe_task: ClassVar[str] = "finetune"
    own_recipe: ClassVar[str] = "prg-small"
    processes: ClassVar[bool] = True
    headlines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        titled("accuracy"): ("classifier.accuracy", "low", "high"),
        **{titled(name): (f"classifier.scores.{key}.value", "low", "high") for key, name in NAMES.items()},
        "Flow-matching loss on them": ("classifier.flow_matching",),
    }
    shares: ClassVar[tuple[str, ...]] = tuple(map(titled, ("accuracy", NAMES["map"], NAMES["auroc"])))
    shortcuts: ClassVar[Mapping[str, Shortcut]] = {
        "steps": Shortcut("features.steps", int, "solver steps of the walk"),
        "train_steps": Shortcut("fit.steps", int, "training steps"),
    }

    flow: Live = setting(..., "A run of bothways pretrain, or the address of a flow.", argument=True, metavar="FLOW")
    data: Live = setting(..., "Labelled pictures (see bothways pretrain)")
    recipe: str = setting(own_recipe, "recipe: prg-small, prg-activations, prg-paper, or a .toml file", common=True)
    labels_csv: Table | None = setting(
        None, "CSV of labels with a header, such as file,label; for multi-label names with ; between them, or a column "
        "of 0 and 1 for each; for regression a column for each number", common=True, flags=("--labels-csv",),
    )  # fmt: skip
    target: Literal["class", "multi-label", "regression"] = setting(
        "class", "what is predicted: class, multi-label (several a picture) or regression (numbers)", common=True
    )
    tune: str = setting(
        "all",
        "what is trained: all; head; with the head last:N, the last N blocks of the flow; bias, its biases; lora:RANK, "
        "LoRA adapters of its linear layers and convolutions, which are merged when weights are kept",
        common=True,
    )
    frozen: bool = setting(
        False, "short form of --tune head", flags=("--frozen/--no-frozen",), common=True, exclude=True
    )
    fresh: bool = setting(
        False, "start from random weights (control without pretraining)", flags=("--fresh/--no-fresh",), common=True
    )
    seed: int = setting(0, "random seed of initial weights, data order, augmentation and noise", ge=0, common=True)
    features: FeaturesConfig = FeaturesConfig()
    loss: ClassifierLossConfig = ClassifierLossConfig()
    holdout: LabelledHoldoutConfig = LabelledHoldoutConfig()
    augmentation: StrongAugmentationConfig = StrongAugmentationConfig()
    fit: FinetuneFitConfig = FinetuneFitConfig()
    run: FinetuneRunConfig = FinetuneRunConfig()
    split: str | None = setting(None, READ, common=True)

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Merge changes into the recipe, and drop settings of the recipe that contradict them."""
        if "batch" in changes.get("fit", {}):
            changes = merged({"fit": {"strict_batch": True}}, changes)
        whole = super().merged(recipe, changes)
        features, given = whole.get("features", {}), changes.get("features", {})
        if not all(isinstance(table, Mapping) for table in (features, given, whole.get("loss", {}))):
            return whole  # validation raises the error
        before, now = (table.get("features", {}).get("kind", "walked") for table in (recipe, whole))
        if not (isinstance(before, str) and isinstance(now, str)):
            return whole  # the same
        if (before == "activations") != (now == "activations") and "depth" not in given:
            whole["features"] = {**features, "depth": None}  # it is the depth of a walk
        whole |= tuned(whole, changes)
        if whole.get("target") == "regression" and "label_smoothing" not in changes.get("loss", {}):
            whole["loss"] = {**whole.get("loss", {}), "label_smoothing": 0.0}  # that of a recipe for classes
        if (whole.get("frozen") or now == "pixels") and "beta" not in changes.get("loss", {}):
            whole["loss"] = {**whole.get("loss", {}), "beta": None}
        return whole

    @classmethod
    def given_again(cls, before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """As they are given, without what ``merged`` derives: given.json of a resumed run stays what it was."""
        return super().merged(before, changes)

    @property
    def holds_flow(self) -> bool:
        """Whether the flow is not trained."""
        return self.frozen or self.features.kind == "pixels"

    @model_validator(mode="after")
    def _agrees(self) -> FinetuneConfig:
        tune_of(self.tune)
        if self.target != "class" and (self.run.accuracy_every or self.run.keep_best):
            raise UserError(f"accuracy_every and keep_best are for --target class, and the target is {self.target}")
        if self.target != "class" and self.loss.class_weights is not None:
            raise UserError(f"class_weights is for --target class, and the target is {self.target}; leave it out")
        if self.target == "regression" and self.loss.label_smoothing:
            raise UserError("label_smoothing is of classes and labels, and the target is regression; leave it out")
        if self.holds_flow and self.loss.beta:
            raise UserError(
                f"beta={self.loss.beta:g} trains the flow, which "
                + ("is frozen" if self.frozen else "kind 'pixels' does not use")
                + "; leave --beta out, or type --beta 0"
            )
        if self.features.kind == "pixels" and self.tune not in ("all", "head"):
            raise UserError(f"tune={self.tune!r} is a part of the flow, which kind 'pixels' does not use; leave it out")
        if self.features.layer is not None and not self.features.reads_activations:
            raise UserError(
                f"layer={self.features.layer!r} is not read by kind {self.features.kind!r}; type --kind activations"
            )
        return self


def tuned(whole: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings tune and frozen that agree: what was changed counts. Raises UserError for two that contradict."""
    if "frozen" in changes:
        try:
            changes = {**changes, "frozen": FLAG.validate_python(changes["frozen"])}  # "false" of --set or --sweep
        except ValidationError:
            return {}  # validation raises the error
    tune, frozen = whole.get("tune", "all"), "head" if changes.get("frozen") else None
    if "frozen" in changes and "tune" in changes and (tune == "head") != bool(frozen):
        raise UserError(f"tune={tune!r} and frozen={changes['frozen']} contradict each other; give one")
    if "tune" not in changes:
        held = frozen or ("head" if whole.get("frozen") else tune)
        tune = held if changes.get("frozen", True) or held != "head" else "all"
    return {"tune": tune, "frozen": tune == "head"}
