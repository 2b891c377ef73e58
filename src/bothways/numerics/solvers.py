"""Steps of an ordinary differential equation dx/dt = v(x, t) on a fixed grid; a step may go either way in time.

    euler            x + h v(x, t)                                                              order 1, 1 call
    midpoint         x + h v(x + h/2 v(x, t), t + h/2)                                          order 2, 2 calls
    heun             x + h/2 (k1 + k2),  k2 = v(x + h k1, t + h)                                order 2, 2 calls
    rk4              x + h/6 (k1 + 2 k2 + 2 k3 + k4)                                            order 4, 4 calls
    reversible-heun  y' = 2x - y + h f,  f' = v(y', t + h),  x' = x + h/2 (f + f')              order 2, 1 call
                     Kidger et al. 2021, arXiv 2105.13493, eq. 6; the state (x, y, f) can be taken back exactly

A state is a tuple of tensors, x first; only reversible Heun holds more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from bothways.types import UserError, VectorField

State = tuple[Tensor, ...]
Step = Callable[[VectorField, State, float, float], State]  # (v, state at t, t, h) -> state at t + h


def _one(x: Tensor, t: float) -> Tensor:
    """t for every picture, (B,), in the precision of x."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)


def _alone(v: VectorField, x: Tensor, t: float) -> State:
    return (x,)


def _with_velocity(v: VectorField, x: Tensor, t: float) -> State:
    return x, x, v(x, _one(x, t))


def euler(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    return (x + h * v(x, _one(x, t)),)


def midpoint(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    half = x + h / 2 * v(x, _one(x, t))
    return (x + h * v(half, _one(x, t + h / 2)),)


def heun(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    first = v(x, _one(x, t))
    second = v(x + h * first, _one(x, t + h))
    return (x + h / 2 * (first + second),)


def rk4(v: VectorField, state: State, t: float, h: float) -> State:
    (x,) = state
    middle = _one(x, t + h / 2)
    k1 = v(x, _one(x, t))
    k2 = v(x + h / 2 * k1, middle)
    k3 = v(x + h / 2 * k2, middle)
    k4 = v(x + h * k3, _one(x, t + h))
    return (x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4),)


def reversible_heun(v: VectorField, state: State, t: float, h: float) -> State:
    x, y, f = state
    ahead = 2 * x - y + h * f
    velocity = v(ahead, _one(x, t + h))
    return x + h / 2 * (f + velocity), ahead, velocity


@dataclass(frozen=True)
class Solver:
    """How a step is made. ``start``: the state at x; ``calls``: of the network a step; ``order``: of the error."""

    name: str
    step: Step
    calls: int
    order: int
    start: Callable[[VectorField, Tensor, float], State] = _alone

    def calls_of(self, steps: int) -> int:
        """Of the network, for a walk of so many steps: steps * calls, and one more where the state holds a velocity."""
        return steps * self.calls + (self.start is not _alone)


SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        Solver("euler", euler, 1, 1),
        Solver("midpoint", midpoint, 2, 2),
        Solver("heun", heun, 2, 2),
        Solver("rk4", rk4, 4, 4),
        Solver("reversible-heun", reversible_heun, 1, 2, _with_velocity),
    )
}


def solver_of(name: str) -> Solver:
    """The fixed-grid solver of a name. Raises UserError for one that is not known."""
    if name not in SOLVERS:
        raise UserError(f"solver {name!r} is not known; type one of {', '.join(SOLVERS)}")
    return SOLVERS[name]


def grid(start: float, end: float, steps: int) -> list[float]:
    """steps + 1 moments from start to end, evenly spaced. Raises UserError for less than one step."""
    if steps < 1:
        raise UserError(f"steps={steps}; a walk takes 1 step or more")
    return [start + (end - start) * place / steps for place in range(steps + 1)]


def walked(v: VectorField, state: State, times: list[float], solver: Solver) -> Iterator[State]:
    """The state after each step of a grid, with autograd's own graph through all of them."""
    for t, following in pairwise(times):
        state = solver.step(v, state, t, following - t)
        yield state
