"""The facts about a model that a form needs: class names, and whether it encodes text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from bothways.models.cards import cards
from bothways.models.loader import load_model
from bothways.studio.child import answer
from bothways.studio.requests import refuse_foreign
from bothways.types import UserError

MODEL = "bundled:cifar10-resnet"  # the default of the forms


@dataclass(frozen=True)
class About:
    """Facts about a model. classes: the choices of the form; class numbers for duplicate or missing names."""

    classes: tuple[str, ...]
    reads_text: bool


def bundled() -> list[str]:
    """The addresses of the bundled models."""
    return [f"bundled:{facts['name']}" for facts in cards()]


def about(model: str, weights: str | None = None) -> About:
    """Of a bundled model from its card, of any other by reading it, in a process of its own: it may be a user's file.

    Raises UserError where it cannot be read, or names Python code that may not run here.
    """
    for facts in cards():
        if model == f"bundled:{facts['name']}":
            return About(_unique_names(facts["spec"]["classes"]), False)
    refuse_foreign({"model": model, "weights": weights})
    return _about(model, weights)


@lru_cache(maxsize=8)
def _about(model: str, weights: str | None) -> About:
    return answer(_read, model, weights)


def _read(model: str, weights: str | None) -> About:
    found = load_model(model, weights=weights)
    return About(_unique_names([found.spec.class_name(i) for i in range(found.spec.count)]), _reads_text(found))


def _unique_names(names: list[str]) -> tuple[str, ...]:
    count = Counter(names)
    return tuple(name if count[name] == 1 else str(number) for number, name in enumerate(names))


def _reads_text(model: object) -> bool:
    try:
        model.text(["a"])  # type: ignore[attr-defined]
    except UserError:
        return False
    return True
