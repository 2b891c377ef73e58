"""Step-size schedules: progress in [0, 1] -> a factor from 1 to 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from bothways import registry
from bothways.faults import call
from bothways.registry import register
from bothways.types import UserError

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
    made = registry.find("schedule", name).factory
    return made if name in registry.names("schedule") else partial(_checked, made)


def _checked(made: Schedule, progress: float) -> float:
    """The factor of a user's own. Raises UserError unless it is a finite number."""
    factor = call("schedule", made, progress)
    cause: Exception | None = None
    try:
        found = float(factor)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        found, cause = math.nan, error
    if not math.isfinite(found):
        given = repr(factor) if isinstance(factor, float) else f"a {type(factor).__name__}"
        raise UserError(f"schedule {registry.name_of(made)!r} gives {given}; return a finite number") from cause
    return found
