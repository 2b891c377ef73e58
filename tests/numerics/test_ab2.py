from __future__ import annotations

import torch
from torch import Tensor

from bothways.numerics.solvers import grid, solver_of, solver_states


def test_a_linear_velocity_is_integrated_exactly_but_for_the_first_step() -> None:
    """dx/dt = 2t: x(1) - x(0) = 1, of which Euler's first step misses h^2."""
    calls, steps = [0], 8

    def twice(x: Tensor, t: Tensor) -> Tensor:
        calls[0] += 1
        return (2 * t)[:, None].expand_as(x)

    solver, x = solver_of("ab2"), torch.zeros(2, 3, dtype=torch.float64)
    *_, (found, _) = solver_states(twice, solver.start(twice, x, 0.0), grid(0.0, 1.0, steps), solver)
    assert (found - (1 - 1 / steps**2)).abs().max() < 1e-12
    assert calls[0] == solver.calls_of(steps) == steps + 1
