"""Who judges: models that gave no gradient, the bundled ones of the same classes where none is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bothways.models.adapter import Adapter
from bothways.models.catalogue import bundled_names, card, spec_from
from bothways.models.loader import load_model
from bothways.types import ModelSpec, UserError


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
