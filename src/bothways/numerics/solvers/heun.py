"""x + h/2 (k1 + k2),   k1 = v(x, t),   k2 = v(x + h k1, t + h)."""

from __future__ import annotations

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


@register("solver", "heun", help="the mean of the velocities at both ends: order 2, two calls a step")
@fixed_grid(calls=2, order=2, same_as="heun2")
def heun(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    first = v(x, at_time(x, t))
    second = v(x + h * first, at_time(x, t + h))
    return (x + h / 2 * (first + second),)
