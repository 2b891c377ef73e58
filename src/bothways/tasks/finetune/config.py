"""The settings of ``finetune``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from bothways.configs import Config, Live, Shortcut, chosen, merged, setting
from bothways.data.config import READ
from bothways.registry import register
from bothways.training.config import FitConfig, FlowHoldoutConfig, RunConfig, one_of
from bothways.types import UserError

DEFAULT = "prg-small"


class FeaturesConfig(Config):
    """What the head reads of a picture, and the head."""

    kind: Literal["walked", "activations", "both", "pixels"] = setting(
        "walked",
        "what the head reads: walked (the picture walked to a depth), activations (of a layer of the flow), both, or "
        "pixels, the control that asks no flow",
        common=True,
    )
    depth: float | None = setting(
        None, "how far from the picture, 1 is noise; none for .5 of a walk, .1 of activations", ge=0, le=1, common=True
    )
    steps: int = setting(5, "of the walk", ge=1, common=True)
    solver: chosen("solver") = setting("euler", "of the walk")  # type: ignore[valid-type]
    gradient: Literal["exact", "direct", "adjoint"] = setting(
        "exact", "of the walk: exact, in little memory; direct, the same in much; adjoint, torchdiffeq's"
    )
    layer: str | None = setting(None, "whose activations are read; none for the middle of our U-Net")
    activation_depth: float | None = setting(
        None, "of the activations, where a walk has another depth; none for .1", ge=0, le=1
    )
    noised: bool = setting(
        False, "activations are those of the picture with the noise of its depth", flags=("--noised/--clean",)
    )
    head: chosen("head") = setting("prg", "what makes logits of the features")  # type: ignore[valid-type]

    @property
    def reads_activations(self) -> bool:
        return self.kind in ("activations", "both")

    @property
    def walk_depth(self) -> float:
        return 0.5 if self.depth is None else self.depth

    @property
    def read_depth(self) -> float:
        """At which the activations are read."""
        own = self.depth if self.kind == "activations" and self.activation_depth is None else self.activation_depth
        return 0.1 if own is None else own


class ClassifierLossConfig(Config):
    """Cross-entropy, and the flow's own loss beside it."""

    label_smoothing: float = setting(0.0, "share of the target spread over all classes", ge=0, lt=1)
    beta: float | None = setting(
        None, "weight of the flow-matching loss; none for 1, and 0 where the flow is frozen", ge=0, common=True
    )
    flow_batch: int | None = setting(
        None, "pictures of a step that the flow-matching loss sees; none for as many as the batch", ge=1
    )
    coupling: chosen("coupling") | None = setting(  # type: ignore[valid-type]
        None, "of noise in that loss; none for that of the flow's own training"
    )


class StrongAugmentationConfig(Config):
    """What a training picture goes through, and nothing besides."""

    crop: int = setting(0, "pixels of padding before a crop")
    flip: bool = setting(False, "mirror half of the pictures", flags=("--flip/--no-flip",))
    strength: float = setting(0.0, "of RandAugment, 0 to 10; 0 for none")
    operations: int = setting(2, "of RandAugment, one after another")
    erase: float = setting(0.0, "chance of a rectangle of noise")


class FinetuneFitConfig(FitConfig):
    """How long and how fast, block by block of the flow."""

    steps: int | None = setting(None, "training steps; or --epochs", ge=1, flags=("--train-steps",), common=True)
    layer_decay: float = setting(
        1.0, "what the rate is multiplied by from a block of the flow to the one below it", gt=0, le=1
    )
    strict_batch: bool = setting(
        False, "refuse a batch of more pictures than there are; that of a recipe gives way", live=True, exclude=True
    )
    half: bool = setting(False, "keep the weights in half precision", flags=("--half/--no-half",))


class LabelledHoldoutConfig(FlowHoldoutConfig):
    """The pictures that are not trained on, and how many of the others are."""

    labels: int | None = setting(None, "train on so many labelled pictures, as many of each class", ge=1, common=True)


@register("task", "finetune", help="Make a flow a classifier: a head on walked pictures or on activations.")
class FinetuneConfig(Config):
    """Make a flow a classifier: a head reads pictures walked towards noise, or the flow's own activations.

    loss = cross-entropy(head(f(x)), label) + beta L_FM,   f: x walked to a depth, the flow's activations, or both

    It leaves classifier.json and classifier.safetensors, the loss of every step, the accuracy on pictures held out, and
    report.html. In Python bothways.load_classifier(RUN) is a model like any other.

    Source: PRG, Xue et al. 2024, arXiv 2412.01787, eq. 3.

    Examples
    bothways finetune runs/digits --data digits --depth 0.5 --steps 5
    bothways finetune runs/flow --data path/to/pictures --kind activations --labels 500 --batch 50
    bothways finetune runs/flow --data path/to/pictures --fresh --out runs/control
    bothways finetune runs/flow --data path/to/pictures --head my.py:deep
    """

    recipe_task: ClassVar[str] = "finetune"
    writes: ClassVar[bool] = True
    processes: ClassVar[bool] = True
    shortcuts: ClassVar[Mapping[str, Shortcut]] = {
        "steps": Shortcut("features.steps", int, "of the walk"),
        "train_steps": Shortcut("fit.steps", int, "training steps"),
    }

    flow: Live = setting(..., "A run of bothways pretrain, or a flow's address.", argument=True, metavar="FLOW")
    data: Live = setting(..., "Labelled pictures (see bothways pretrain)")
    recipe: str = setting(DEFAULT, "prg-small, prg-activations, prg-paper, or a .toml file", common=True)
    frozen: bool = setting(False, "train the head alone", flags=("--frozen/--no-frozen",), common=True)
    fresh: bool = setting(
        False, "begin with random weights: the control without pretraining", flags=("--fresh/--no-fresh",), common=True
    )
    seed: int = setting(0, "of the head's first weights, the order, augmentation, noise and times", ge=0, common=True)
    features: FeaturesConfig = FeaturesConfig()
    loss: ClassifierLossConfig = ClassifierLossConfig()
    holdout: LabelledHoldoutConfig = LabelledHoldoutConfig()
    augmentation: StrongAugmentationConfig = StrongAugmentationConfig()
    fit: FinetuneFitConfig = FinetuneFitConfig()
    run: RunConfig = RunConfig()
    split: str | None = setting(None, READ, common=True)

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        return DEFAULT

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """What is given replaces what the recipe has, and what of the recipe no longer fits is left out."""
        recipe = one_of(recipe, changes, "fit", "steps", "epochs")
        if "batch" in changes.get("fit", {}):
            changes = merged({"fit": {"strict_batch": True}}, changes)
        whole = merged(recipe, changes)
        features, given = whole.get("features", {}), changes.get("features", {})
        if not all(isinstance(table, Mapping) for table in (features, given, whole.get("loss", {}))):
            return whole  # refused when it is validated
        before, now = (table.get("features", {}).get("kind", "walked") for table in (recipe, whole))
        if (before == "activations") != (now == "activations") and "depth" not in given:
            whole["features"] = {**features, "depth": None}  # a recipe's depth of a walk is none of activations
        if (whole.get("frozen") or now == "pixels") and "beta" not in changes.get("loss", {}):
            whole["loss"] = {**whole.get("loss", {}), "beta": None}
        return whole

    @property
    def holds_flow(self) -> bool:
        """Whether the head alone learns."""
        return self.frozen or self.features.kind == "pixels"

    @model_validator(mode="after")
    def _agrees(self) -> FinetuneConfig:
        if self.holds_flow and self.loss.beta:
            raise UserError(
                f"beta={self.loss.beta:g} trains the flow, which "
                + ("is frozen" if self.frozen else "kind 'pixels' does not ask")
                + "; leave --beta out, or type --beta 0"
            )
        if self.features.layer is not None and not self.features.reads_activations:
            raise UserError(
                f"layer={self.features.layer!r} is not read by kind {self.features.kind!r}; type --kind activations"
            )
        return self
