"""Every choice of a pretraining in one frozen, validated record; recipes are TOML files that fill it in."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bothways.tasks.generate.config import validated, worded
from bothways.tasks.recipes import read_recipe, recipes
from bothways.types import UserError

DEFAULT_PRETRAINING = "otcfm"


class PretrainSettings(BaseModel):
    """How a flow is pretrained. In a recipe they stand in tables, whose names say nothing: only ``network`` is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str = Field(DEFAULT_PRETRAINING, description="the recipe these settings started from")
    seed: int = Field(0, ge=0, description="of the first weights, the order, noise and times")
    path: Literal["linear", "gvp", "vp"] = Field("linear", description="from noise to a picture: linear, gvp, vp")
    coupling: Literal["independent", "ot", "sinkhorn"] = Field(
        "independent", description="which noise a picture is paired with: independent, ot, sinkhorn"
    )
    net: str | None = Field(None, description="a size of U-Net; none for one that fits the pictures")
    network: dict[str, Any] = Field({}, description="options of a U-Net of one's own, in place of net")
    size: int | None = Field(None, ge=1, description="pixels of a side; none for the pictures' own")
    validation: int = Field(500, ge=2, description="pictures held out of the training ones")
    information: int = Field(
        0,
        ge=0,
        description="pictures held out on which mutual information is measured at every checkpoint; 0 for none",
    )
    augmentation: dict[str, Any] = Field({}, description="what a picture goes through: crop, flip, blur, noise, erase")
    steps: int | None = Field(None, ge=1, description="training steps; or --epochs")
    epochs: int | None = Field(None, ge=1, description="times every picture is seen, in place of --steps")
    batch: int = Field(128, ge=1, description="pictures of a step, over all processes")
    optimizer: Literal["sgd", "adamw", "muon"] = Field("adamw", description="without weight decay, adamw is Adam")
    rate: float = Field(1e-3, gt=0, description="peak learning rate; the papers' 1e-4 for their sizes")
    betas: tuple[float, float] = Field((0.9, 0.999), description="of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="of the optimiser")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which the rate rises")
    schedule: Literal["linear", "cosine", "constant"] = Field("cosine", description="how the rate falls then")
    average: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="decay of the average of the weights that is kept, less in a short run; 0 for none",
    )
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 for any")
    bf16: bool = Field(False, description="the network computes in bfloat16")


def pretrain_settings(recipe: str = DEFAULT_PRETRAINING, **changes: Any) -> PretrainSettings:
    """A recipe for pretraining with changes on top; of steps and epochs, and of net and network, a change rules."""
    values, changes = _pretraining(recipe), {k: v for k, v in changes.items() if v is not None}
    for one, other in (("steps", "epochs"), ("net", "network")):
        if one in changes and other in changes:
            raise UserError(f"{one}={changes[one]!r} and {other}={changes[other]!r} contradict each other; give one")
        if one in changes or other in changes:
            values = {key: value for key, value in values.items() if key not in (one, other)}
    values |= changes
    if "steps" not in values and "epochs" not in values:
        raise UserError(f"recipe {recipe!r} says neither how many steps nor epochs; type --steps 5000")
    return validated(PretrainSettings, {**values, "recipe": recipe})


def _pretraining(recipe: str) -> dict[str, Any]:
    """The settings of a recipe out of their tables."""
    tables = read_recipe(recipe, "pretrain")
    for part in ("data", "fit", "network"):
        if not isinstance(tables.get(part, {}), dict):
            raise UserError(
                f"recipe {recipe!r}: {part} = {tables[part]!r} is no table; type [{part}] and its lines below"
            )
    spread = {key: value for part in ("data", "fit") for key, value in tables.pop(part, {}).items()}
    network = tables.pop("network", {})
    return tables | spread | ({"net": network["net"]} if "net" in network else {"network": network} if network else {})


@cache
def _pretraining_recipes() -> dict[str, dict[str, Any]]:
    return {recipe: _pretraining(recipe) for recipe in recipes("pretrain")}


def described_pretraining(name: str) -> str:
    """What a setting of a pretraining is, and what it is in the recipes."""
    field = PretrainSettings.model_fields[name]
    values = {recipe: table.get(name, field.default) for recipe, table in _pretraining_recipes().items()}
    return worded(name, field, values)
