"""How a length falls from the first step of a run to its last: (place from 0 to 1) -> a factor from 1 to 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bothways import registry
from bothways.registry import register

Schedule = Callable[[float], float]


@register("schedule", "constant", help="stays")
def constant(place: float) -> float:
    return 1.0


@register("schedule", "linear", help="falls along a line")
def linear(place: float) -> float:
    return 1 - place


@register("schedule", "cosine", help="falls as half a cosine")
def cosine(place: float) -> float:
    return (1 - math.cos(math.pi * (1 - place))) / 2


def schedule_of(name: Any) -> Schedule:
    """The schedule of a name, of PATH.py:NAME, or itself. Raises UserError for one that is not known."""
    return registry.find("schedule", name).factory
