"""Model-free image metrics, one registry entry each (kind "judge").

An entry is a function: images (N,3,H,W) in [0,1] -> {name: number}, or one number. The package's are written to
measures["images"] under their own keys; a user's, under the name of its function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bothways import registry
from bothways.faults import call
from bothways.registry import Entry
from bothways.types import UserError


def image_measures(images: Tensor, own: Sequence[Entry] = ()) -> dict[str, Any]:
    """Values of all registered image metrics, and of a user's own under the names of their functions.

    images: (N,3,H,W) in [0,1]. own: metrics from ``judges.split_judges``. Raises UserError for a duplicate name, and
    for a value that is neither a number nor a dict of numbers.
    """
    found: dict[str, Any] = {}
    for name in registry.names("judge"):
        found |= registry.find("judge", name).factory(images)
    for entry in own:
        name = registry.address_parts(entry.name)[1] if registry.is_address(entry.name) else entry.name
        if name in found:
            raise UserError(f"judge {entry.name!r} has the name of another measure of pictures; rename the function")
        found[name] = _numbers(call("judge", entry.factory, images, kept=True), entry.name)
    return found


def _numbers(value: Any, judge: str) -> Any:
    """A number or a dict of numbers as Python floats."""
    try:
        found = {str(key): float(one) for key, one in value.items()} if isinstance(value, Mapping) else float(value)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        OverflowError,
    ) as error:  # torch raises RuntimeError for a tensor of several numbers
        raise UserError(
            f"judge {judge!r} gives a {type(value).__name__}; return a number, or a dict of numbers"
        ) from error
    for key, one in found.items() if isinstance(found, dict) else [("its number", found)]:
        if not math.isfinite(one):
            raise UserError(f"judge {judge!r} gives {key} = {one}; return finite numbers")
    return found
