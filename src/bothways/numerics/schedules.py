"""Step-size schedules: progress in [0, 1] -> a factor from 1 to 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bothways import registry
from bothways.registry import register

Schedule = Callable[[float], float]


@register("schedule", "constant", help="constant")
def constant(progress: float) -> float:
    return 1.0


@register("schedule", "linear", help="linear decay")
def linear(progress: float) -> float:
    return 1 - progress


@register("schedule", "cosine", help="cosine decay")
def cosine(progress: float) -> float:
    return (1 - math.cos(math.pi * (1 - progress))) / 2


def schedule_of(name: Any) -> Schedule:
    """Schedule from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name."""
    return registry.find("schedule", name).factory
