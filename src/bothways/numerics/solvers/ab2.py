"""f = v(x, t),   x' = x + h/2 (3 f - f_before): Adams and Bashforth's method of two steps.

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, III.1, eq. 1.5. It is written for steps of
one size; the step before the first has its velocity from the start, so that the first is one of Euler's.
"""

from __future__ import annotations

from torch import Tensor

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


def _with_velocity(v: VectorField, x: Tensor, t: float) -> State:
    return x, v(x, at_time(x, t))


@register("solver", "ab2", help="Adams-Bashforth, from the last two velocities: order 2, one call a step")
@fixed_grid(calls=1, order=2, start=_with_velocity, holds=2)
def ab2(v: VectorField, state: State, t: float, h: float) -> State:
    x, before = state
    velocity = v(x, at_time(x, t))
    return x + h / 2 * (3 * velocity - before), velocity
