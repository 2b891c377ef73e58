"""Measures of pictures that need no model, an entry of the registry each (kind "judge").

An entry is a function: images (N,3,H,W) in [0,1] -> {name: number}, or one number. Those of the package stand in
measures["images"] under their own keys; a user's, under the name of its function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bothways import registry
from bothways.registry import Entry
from bothways.types import UserError


def image_measures(images: Tensor, own: Sequence[Entry] = ()) -> dict[str, Any]:
    """What every registered measure gives, and those of a user, each {name of the function: what it gives}.

    images: (N,3,H,W) in [0,1]. own: as ``judges.split_judges`` gives them. Raises UserError for a name that is taken,
    and for what is neither a number nor a table of numbers.
    """
    found: dict[str, Any] = {}
    for name in registry.names("judge"):
        found |= registry.find("judge", name).factory(images)
    for entry in own:
        name = registry.address_parts(entry.name)[1] if registry.is_address(entry.name) else entry.name
        if name in found:
            raise UserError(f"judge {entry.name!r} has the name of another measure of pictures; rename the function")
        found[name] = _numbers(registry.call("judge", entry.factory, images), entry.name)
    return found


def _numbers(value: Any, judge: str) -> Any:
    """A number, or a table of them, as Python has them."""
    try:
        return {str(key): float(one) for key, one in value.items()} if isinstance(value, Mapping) else float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises the last for a tensor of several numbers
        raise UserError(
            f"judge {judge!r} gives a {type(value).__name__}; return a number, or a dict of numbers"
        ) from error
