"""Explicit midpoint method: x + h v(x + h/2 v(x, t), t + h/2)."""

from __future__ import annotations

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


@register("solver", "midpoint", help="explicit midpoint: order 2, two network calls per step")
@fixed_grid(calls=2, order=2, torchdiffeq_name="midpoint")
def midpoint(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    half = x + h / 2 * v(x, at_time(x, t))
    return (x + h * v(half, at_time(x, t + h / 2)),)
