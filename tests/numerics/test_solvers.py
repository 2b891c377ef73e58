"""Steps of a differential equation, against torchdiffeq's own and against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bothways.numerics.solvers import State, fixed_names, grid, solver_of, solver_states
from bothways.types import UserError, VectorField

torchdiffeq = pytest.importorskip("torchdiffeq")
from torchdiffeq._impl.rk_common import rk4_step_func  # noqa: E402


def bent(x: Tensor, t: Tensor) -> Tensor:
    """A field that is neither linear nor the same at all times, and couples the coordinates."""
    return torch.sin(3 * x.roll(1, 1)) * torch.cos(2 * t)[:, None] - 0.5 * x * t[:, None]


def last(v: VectorField, x: Tensor, times: list[float], name: str) -> State:
    solver = solver_of(name)
    *_, state = solver_states(v, solver.start(v, x, times[0]), times, solver)
    return state


def start() -> Tensor:
    return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("ends", [(1.0, 0.3), (0.2, 1.0)])
@pytest.mark.parametrize(("name", "theirs"), [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2")])
def test_the_steps_are_those_of_torchdiffeq(name, theirs, ends) -> None:
    times = grid(*ends, 7)
    field = torch.tensor(times, dtype=torch.float64)
    expected = torchdiffeq.odeint(lambda t, x: bent(x, t.expand(len(x))), start(), field, method=theirs)
    solver = solver_of(name)
    states = list(solver_states(bent, (start(),), times, solver))
    assert len(states) == 7
    assert max(gap(state[0], wanted) for state, wanted in zip(states, expected[1:], strict=True)) < 1e-12


def test_rk4_is_the_classical_one() -> None:
    times, x = grid(1.0, 0.3, 5), start()
    for t, following in pairwise(times):
        moments = [torch.tensor(value, dtype=torch.float64) for value in (t, following - t, following)]
        x = x + rk4_step_func(lambda t, x, perturb=None: bent(x, t.expand(len(x))), *moments, x)
    assert gap(last(bent, start(), times, "rk4")[0], x) < 1e-12


@pytest.mark.parametrize("name", fixed_names())
def test_the_error_falls_with_the_order_that_is_stated(name) -> None:
    # dx/dt = x cos t has x = x0 exp(sin t - sin t0)
    ends, x = (1.0, 0.0), start()
    exact = x * math.exp(math.sin(ends[1]) - math.sin(ends[0]))
    errors = [
        gap(last(lambda x, t: x * torch.cos(t)[:, None], x, grid(*ends, steps), name)[0], exact) for steps in (20, 40)
    ]
    assert abs(math.log2(errors[0] / errors[1]) - solver_of(name).order) < 0.15


@pytest.mark.parametrize("name", fixed_names())
def test_the_network_is_called_as_often_as_is_stated(name) -> None:
    calls: list[float] = []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),)
        assert t.dtype == x.dtype
        calls.append(float(t[0]))
        return bent(x, t)

    solver = solver_of(name)
    state = solver.start(counted, start(), 1.0)
    calls.clear()
    list(solver_states(counted, state, grid(1.0, 0.0, 3), solver))
    assert len(calls) == 3 * solver.calls


def test_reversible_heun_goes_back_to_where_it_came_from() -> None:
    solver, times = solver_of("reversible-heun"), grid(1.0, 0.0, 9)
    begun = solver.start(bent, start(), 1.0)
    *_, there = solver_states(bent, begun, times, solver)
    *_, back = solver_states(bent, there, times[::-1], solver)
    assert gap(there[0], begun[0]) > 0.1
    assert max(gap(a, b) for a, b in zip(back, begun, strict=True)) < 1e-13


def test_a_grid_has_both_ends_and_even_steps() -> None:
    assert grid(1.0, 0.5, 2) == [1.0, 0.75, 0.5]
    with pytest.raises(UserError, match="1 step or more"):
        grid(1.0, 0.0, 0)
    with pytest.raises(UserError, match="solver 'runge' is not known; type "):
        solver_of("runge")
