"""Reversible Heun: y' = 2x - y + h f,   f' = v(y', t + h),   x' = x + h/2 (f + f').

Source: Kidger, Foster, Li & Lyons 2021, arXiv 2105.13493, eq. 6. The step is algebraically invertible in (x, y, f).
"""

from __future__ import annotations

from torch import Tensor

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


def _with_velocity(v: VectorField, x: Tensor, t: float) -> State:
    return x, x, v(x, at_time(x, t))


@register(
    "solver",
    "reversible-heun",
    help="reversible Heun, exactly invertible: order 2, one network call per step",
    reference="kidger2021efficient",
)
@fixed_grid(calls=1, order=2, start=_with_velocity, state_size=3)
def reversible_heun(v: VectorField, state: State, t: float, h: float) -> State:
    x, y, f = state
    ahead = 2 * x - y + h * f
    velocity = v(ahead, at_time(x, t + h))
    return x + h / 2 * (f + velocity), ahead, velocity
