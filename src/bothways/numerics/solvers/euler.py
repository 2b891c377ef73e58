"""Explicit Euler: x + h v(x, t)."""

from __future__ import annotations

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


@register("solver", "euler", help="explicit Euler: order 1, one network call per step")
@fixed_grid(calls=1, order=1, torchdiffeq_name="euler")
def euler(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    return (x + h * v(x, at_time(x, t)),)
