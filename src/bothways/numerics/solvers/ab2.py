"""Two-step Adams-Bashforth: f = v(x, t),   x' = x + h/2 (3 f - f_previous).

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, III.1, eq. 1.5, for equal steps. The
previous velocity of the first step is the initial one, so that the first step is Euler's.
"""

from __future__ import annotations

from torch import Tensor

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


def _with_velocity(v: VectorField, x: Tensor, t: float) -> State:
    return x, v(x, at_time(x, t))


@register("solver", "ab2", help="two-step Adams-Bashforth: order 2, one network call per step")
@fixed_grid(calls=1, order=2, start=_with_velocity, state_size=2)
def ab2(v: VectorField, state: State, t: float, h: float) -> State:
    x, before = state
    velocity = v(x, at_time(x, t))
    return x + h / 2 * (3 * velocity - before), velocity
