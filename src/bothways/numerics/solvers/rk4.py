"""Classical Runge-Kutta: x + h/6 (k1 + 2 k2 + 2 k3 + k4). torchdiffeq's "rk4" is another method."""

from __future__ import annotations

from bothways.numerics.solvers import State, at_time, fixed_grid
from bothways.registry import register
from bothways.types import VectorField


@register("solver", "rk4", help="classical Runge-Kutta: order 4, four network calls per step")
@fixed_grid(calls=4, order=4)
def rk4(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    middle = at_time(x, t + h / 2)
    k1 = v(x, at_time(x, t))
    k2 = v(x + h / 2 * k1, middle)
    k3 = v(x + h / 2 * k2, middle)
    k4 = v(x + h * k3, at_time(x, t + h))
    return (x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4),)
