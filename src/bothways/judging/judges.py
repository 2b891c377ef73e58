"""Who judges: models that gave no gradient, the bundled ones of the same classes by default, and a user's functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import Parameter, signature
from typing import Any

from torch import nn

from bothways import registry
from bothways.models.adapter import Adapter
from bothways.models.catalogue import bundled_names, card, spec_from
from bothways.models.loader import load_model
from bothways.registry import Entry
from bothways.types import ModelSpec, UserError, VisionModel


def split_judges(given: Sequence[Any] | None) -> tuple[list[Any] | None, list[Entry]]:
    """(models and their addresses, functions that measure pictures without a model). None stays None: the defaults.

    A function of a user, given itself or as ``PATH.py:NAME``, measures pictures where it needs an argument; one that
    needs none builds a model. Raises UserError for a file that is not there.
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
    """Whether it is a function of pictures, and neither a model nor what builds one."""
    if not callable(made) or isinstance(made, nn.Module | VisionModel | type):
        return False
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in by_place and p.default is Parameter.empty for p in signature(made).parameters.values())


def default_judges(model: Adapter) -> list[str]:
    """The bundled models that know the same classes by name."""
    if isinstance(model.spec.classes, int):
        return []
    own = model.name.removeprefix("bundled:")
    alike = [n for n in bundled_names() if n != own and spec_from(card(n)["spec"]).classes == model.spec.classes]
    return [f"bundled:{name}" for name in alike]


def alike_in_size(spec: ModelSpec) -> list[str]:
    """The bundled models that see pictures of a flow's size."""
    size = [spec.height, spec.width]
    cards = {name: card(name)["spec"] for name in bundled_names()}
    return [f"bundled:{n}" for n, told in cards.items() if not told.get("path") and told["size"] in (size, size[0])]


def load_judges(judges: Iterable[Any], device: str) -> list[Adapter]:
    """Each by its address, or as it is. Raises UserError that names the judge."""
    found = []
    for given in judges:
        try:
            found.append(given if isinstance(given, Adapter) else load_model(given, device=device))
        except UserError as error:
            raise UserError(f"judge {given}: {error}") from error
    return found


def find_jury(model: Adapter, judges: Sequence[Any] | None) -> list[Adapter]:
    """The judges, and last the model itself. None takes the bundled models that know the same classes."""
    found = load_judges(default_judges(model) if judges is None else judges, model.device)
    return [judge for judge in found if judge.name != model.name] + [model]
