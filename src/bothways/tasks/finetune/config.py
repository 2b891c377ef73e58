"""Every choice of a fine-tuning in one frozen, validated record; recipes are TOML files that fill it in."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bothways.tasks.generate.config import validated, worded
from bothways.tasks.recipes import read_recipe, recipes
from bothways.types import UserError

DEFAULT_FINETUNING = "prg-small"
TABLES = ("features", "data", "fit")  # of a recipe, whose names say nothing


class FinetuneSettings(BaseModel):
    """How a flow is made a classifier."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str = Field(DEFAULT_FINETUNING, description="the recipe these settings started from")
    seed: int = Field(0, ge=0, description="of the head's first weights, the order, augmentation, noise and times")

    kind: Literal["walked", "activations", "both", "pixels"] = Field(
        "walked",
        description="what the head reads: walked (the picture walked to a depth), activations (of a layer of the "
        "flow), both, or pixels, the control that asks no flow",
    )
    depth: float | None = Field(
        None, ge=0, le=1, description="how far from the picture, 1 is noise; none for .5 of a walk, .1 of activations"
    )
    steps: int = Field(5, ge=1, description="of the walk")
    solver: Literal["euler", "midpoint", "heun", "rk4", "reversible-heun"] = Field(
        "euler", description="of the walk: euler, midpoint, heun, rk4, reversible-heun"
    )
    gradient: Literal["exact", "direct", "adjoint"] = Field(
        "exact", description="of the walk: exact, in little memory; direct, the same in much; adjoint, torchdiffeq's"
    )
    layer: str | None = Field(None, description="whose activations are read; none for the middle of our U-Net")
    activation_depth: float | None = Field(
        None, ge=0, le=1, description="of the activations, where a walk has another depth; none for .1"
    )
    noised: bool = Field(False, description="activations are those of the picture with the noise of its depth")

    frozen: bool = Field(False, description="train the head alone")
    fresh: bool = Field(False, description="begin with random weights: the control without pretraining")
    beta: float | None = Field(
        None, ge=0, description="weight of the flow-matching loss; none for 1, and 0 where the flow is frozen"
    )
    flow_batch: int | None = Field(
        None, ge=1, description="pictures of a step that the flow-matching loss sees; none for as many as the batch"
    )
    coupling: Literal["independent", "ot", "sinkhorn"] | None = Field(
        None, description="of noise in that loss: independent, ot, sinkhorn; none for that of the flow's own training"
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target spread over all classes")

    labels: int | None = Field(None, ge=1, description="train on so many labelled pictures, as many of each class")
    validation: int = Field(500, ge=1, description="pictures held out of the training ones")
    information: int = Field(
        0,
        ge=0,
        description="pictures held out on which mutual information is measured at every checkpoint; 0 for none",
    )
    augmentation: dict[str, Any] = Field(
        {}, description="what a picture goes through: crop, flip, strength, operations, erase"
    )

    train_steps: int | None = Field(None, ge=1, description="training steps; or --epochs")
    epochs: int | None = Field(None, ge=1, description="times every picture is seen, in place of --train-steps")
    batch: int = Field(128, ge=1, description="pictures of a step, over all processes")
    optimizer: Literal["sgd", "adamw", "muon"] = Field("adamw", description="sgd, adamw, muon")
    rate: float = Field(1e-3, gt=0, description="peak learning rate, of the head")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="what the rate is multiplied by from a block of the flow to the one below it"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="of AdamW")
    weight_decay: float = Field(0.05, ge=0, description="of the optimiser")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which the rate rises")
    schedule: Literal["linear", "cosine", "constant"] = Field("cosine", description="how the rate falls then")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the average of the weights that is kept; 0 for none")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 for any")
    bf16: bool = Field(False, description="the network computes in bfloat16")
    half: bool = Field(False, description="keep the weights in half precision")

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


def finetune_settings(recipe: str = DEFAULT_FINETUNING, **changes: Any) -> FinetuneSettings:
    """A recipe for fine-tuning with changes on top; of train_steps and epochs a change rules.

    Raises UserError in one line for what is not known, and for choices that contradict each other.
    """
    values, changes = _finetuning(recipe), {k: v for k, v in changes.items() if v is not None}
    if "train_steps" in changes and "epochs" in changes:
        given = f"train_steps={changes['train_steps']!r} and epochs={changes['epochs']!r}"
        raise UserError(f"{given} contradict each other; give one")
    if "train_steps" in changes or "epochs" in changes:
        values = {key: value for key, value in values.items() if key not in ("train_steps", "epochs")}
    kinds = (values.get("kind", "walked"), changes.get("kind", values.get("kind", "walked")))
    if (kinds[0] == "activations") != (kinds[1] == "activations"):
        values.pop("depth", None)  # a recipe's depth of a walk is none of activations
    values |= changes
    if "train_steps" not in values and "epochs" not in values:
        raise UserError(f"recipe {recipe!r} says neither how many steps nor epochs; type --epochs 20")
    settings = validated(FinetuneSettings, {**values, "recipe": recipe})
    held = settings.frozen or settings.kind == "pixels"
    if held and changes.get("beta"):
        raise UserError(
            f"beta={settings.beta:g} trains the flow, which "
            + ("is frozen" if settings.frozen else "kind 'pixels' does not ask")
            + "; leave --beta out, or type --beta 0"
        )
    if settings.layer is not None and not settings.reads_activations:
        raise UserError(f"layer={settings.layer!r} is not read by kind {settings.kind!r}; type --kind activations")
    beta = 0.0 if held else 1.0 if settings.beta is None else settings.beta
    return settings.model_copy(update={"frozen": held, "beta": beta})


def _finetuning(recipe: str) -> dict[str, Any]:
    """The settings of a recipe out of their tables."""
    tables = read_recipe(recipe, "finetune")
    for part in TABLES:
        if not isinstance(tables.get(part, {}), dict):
            raise UserError(
                f"recipe {recipe!r}: {part} = {tables[part]!r} is no table; type [{part}] and its lines below"
            )
    spread = {key: value for part in TABLES for key, value in tables.pop(part, {}).items()}
    return tables | spread


@cache
def _finetuning_recipes() -> dict[str, dict[str, Any]]:
    return {recipe: _finetuning(recipe) for recipe in recipes("finetune")}


def described_finetuning(name: str) -> str:
    """What a setting of a fine-tuning is, and what it is in the recipes."""
    field = FinetuneSettings.model_fields[name]
    values = {recipe: table.get(name, field.default) for recipe, table in _finetuning_recipes().items()}
    return worded(name, field, values)
