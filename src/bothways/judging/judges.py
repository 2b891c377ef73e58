"""Selection of judges: independent models, by default the bundled ones with the same classes, and user metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bothways import registry
from bothways.brief import shown
from bothways.models.adapter import Adapter
from bothways.models.cards import bundled_names, card
from bothways.models.catalogue import spec_from
from bothways.models.loader import load_model, told_apart
from bothways.registry import Entry
from bothways.types import ModelSpec, UserError, VisionModel


def split_judges(given: Sequence[Any] | None) -> tuple[list[Any] | None, list[Entry]]:
    """Split judges into (models or their addresses, model-free image metrics); None stays None, for the defaults.

    A user's function, passed directly or as ``PATH.py:NAME``, is an image metric if it has a required argument; one
    without builds a model. Raises UserError for a missing file.
    """
    if given is None:
        return None, []
    models: list[Any] = []
    measures: list[Entry] = []
    for judge in given:
        made = registry.load_attribute(judge, "judge") if _is_address(judge) else judge
        if _measures(made):
            measures.append(registry.find("judge", judge))
        else:
            models.append(judge)
    return models, measures


def _is_address(judge: Any) -> bool:
    return isinstance(judge, str) and registry.is_address(judge)


def _measures(made: Any) -> bool:
    """Whether an object is an image metric, and neither a model nor a function that builds one."""
    if not callable(made) or isinstance(made, nn.Module | VisionModel | type):
        return False
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = signature(made).parameters.values()
    except ValueError:  # one in C, which may not tell
        return True
    return any(p.kind in by_place and p.default is Parameter.empty for p in parameters)


def default_judges(model: Adapter) -> list[str]:
    """The other bundled models with the same class names."""
    if isinstance(model.spec.classes, int):
        return []
    own = model.name.removeprefix("bundled:")
    alike = [n for n in bundled_names() if n != own and spec_from(card(n)["spec"]).classes == model.spec.classes]
    return [f"bundled:{name}" for name in alike]


def judges_of_size(spec: ModelSpec) -> list[str]:
    """The bundled models whose input has a flow's size."""
    size = [spec.height, spec.width]
    cards = {name: card(name)["spec"] for name in bundled_names()}
    return [f"bundled:{n}" for n, own in cards.items() if not own.get("path") and own["size"] in (size, size[0])]


def load_judges(judges: Iterable[Any], device: str) -> list[Adapter]:
    """Load judges from their addresses; loaded ones pass through. Raises UserError with the judge's name."""
    found = []
    for given in judges:
        try:
            found.append(load_model(given, device=device))
        except UserError as error:
            raise UserError(f"judge {given if isinstance(given, str | Path) else shown(given)}: {error}") from error
    return found


def find_jury(model: Adapter, judges: Sequence[Any] | None) -> list[Adapter]:
    """The judges, each once, and last the model itself. None takes the bundled models that know the same classes.

    Another network of the same name, as two modules of one class have it, judges as "NAME (2)".
    """
    jury = [model]
    for judge in load_judges(default_judges(model) if judges is None else judges, model.device):
        if not any(judge.name == other.name and same_network(judge, other) for other in jury):
            jury.append(judge)
    _, *others = told_apart(jury)
    return [*others, model]


def same_network(one: Adapter, other: Adapter) -> bool:
    """Whether two models have the same weights, whatever their names; without any, whether they have one name."""
    if one.module is other.module:
        return True
    held, theirs = (list(model.module.state_dict().values()) for model in (one, other))
    alike = len(held) == len(theirs) and all(a.shape == b.shape for a, b in zip(held, theirs, strict=True))
    if not (alike and held):
        return alike and one.name == other.name
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(held, theirs, strict=True))
