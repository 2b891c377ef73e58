"""The facts about a model that a form needs: class names, whether it encodes text, its layers, what it predicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

from bothways.models.cards import cards, classifier_cards
from bothways.models.layers_of import LayerRow, layers
from bothways.models.loader import load_model
from bothways.studio.child import answer
from bothways.studio.requests import refuse_foreign
from bothways.tasks.predict.config import PredictConfig
from bothways.tasks.recipes import configure
from bothways.tasks.resume import prepare
from bothways.tasks.work import Where, perform
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


def classifiers() -> list[str]:
    """The addresses of the bundled models that predict classes, those made of a flow last."""
    return [*bundled(), *(f"bundled:{facts['name']}" for facts in classifier_cards())]


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
    return About(_unique_names([found.spec.class_name(i) for i in range(found.spec.count)]), found.reads_text)


def layers_of(model: str | None, weights: str | None = None) -> list[LayerRow]:
    """The layers of a model, read in a process of its own. Raises UserError as ``about`` does."""
    model, weights = _chosen(model), (weights or "").strip() or None
    refuse_foreign({"model": model, "weights": weights})
    return answer(_layers, model, weights)


def _layers(model: str, weights: str | None) -> list[LayerRow]:
    return layers(load_model(model, weights=weights))


def predicted(model: str | None, weights: str | None, photo: Tensor) -> list[tuple[str, float]]:
    """The most probable classes of a picture (3,H,W) in [0,1] with their probabilities, in a process of its own.

    Raises UserError as ``about`` does, and for a model without classes.
    """
    model, weights = _chosen(model), (weights or "").strip() or None
    refuse_foreign({"model": model, "weights": weights})
    pixels = (255 * photo).round().byte().permute(1, 2, 0).contiguous().numpy()
    return answer(_predict, model, weights, pixels)


def _predict(model: str, weights: str | None, pixels: np.ndarray) -> list[tuple[str, float]]:
    work = prepare(configure(PredictConfig, model=model, weights=weights, images=[pixels]), Where())
    (found,) = perform(work)
    if found.error:
        raise UserError(found.error)
    return [(one.name, one.value if one.probability is None else one.probability) for one in found.answers]


def _chosen(model: str | None) -> str:
    if not (model or "").strip():
        raise UserError(f"no model was chosen; choose one, such as {MODEL}")
    return str(model).strip()


def _unique_names(names: list[str]) -> tuple[str, ...]:
    count = Counter(names)
    return tuple(name if count[name] == 1 else str(number) for number, name in enumerate(names))
