"""Heun's method: x + h/2 (k1 + k2),   k1 = v(x, t),   k2 = v(x + h k1, t + h)."""

from __future__ import annotations

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


@register("solver", "heun", help="Heun's method: order 2, two network calls per step")
@fixed_grid(calls=2, order=2, torchdiffeq_name="heun2")
def heun(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    first = v(x, at_time(x, t))
    second = v(x + h * first, at_time(x, t + h))
    return (x + h / 2 * (first + second),)
