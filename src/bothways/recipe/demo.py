"""The first job: what a bundled classifier knows of its ten classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.models.catalogue import bundled_names, card
from bothways.models.hub import LIBRARIES
from bothways.recipe.drawing import Drawing
from bothways.recipe.generate import prepare

MODEL = "bundled:cifar10-resnet"
RECIPES = ("das", "icons")
# fewer steps and copies than the recipe's own, so that a hundred pictures take a minute or so on two cores
LIGHTER: dict[str, dict[str, Any]] = {"das": {"steps": 40, "copies": 2, "rms": 0.08, "noise": 0.05}, "icons": {}}


def prepare_demo(recipe: str, out: Path, *, n: int = 10, seed: int = 0) -> Drawing:
    """One of the demo's two runs."""
    return prepare(MODEL, range(10), recipe, out=out, overwrite=True, n=n, seed=seed, **LIGHTER[recipe])


def cards() -> list[dict[str, Any]]:
    """What is known of the bundled models."""
    return [card(name) for name in bundled_names()]


def addresses() -> list[tuple[str, str, str]]:
    """(an example, what it is, what to type first) of every kind of address; nothing to type where all is installed."""
    own = [
        ("bundled:cifar10-resnet", "one of the models above", ""),
        ("PATH.py:FUNCTION", "your own file; the function returns (nn.Module, bothways.ModelSpec(...))", ""),
        ("PATH/NAME.json", "the card that bothways train wrote", ""),
    ]
    return own + [(kind.example, kind.holds, "" if kind.installed else kind.install) for kind in LIBRARIES.values()]
