"""How a walk is made: its steps, its solver, and what kind of gradient it has."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import torch

from bothways import registry
from bothways.brief import shown
from bothways.numerics.discrete_adjoint import KEEP
from bothways.numerics.solvers import Adaptive, Solver, any_solver
from bothways.types import UserError

GRADIENTS = ("exact", "direct", "adjoint")


@dataclass(frozen=True)
class Walk:
    """How a walk is made.

    steps: of a fixed grid. solver: a name of the registry, PATH.py:NAME, or a ``Solver``; an adaptive one chooses its
    own steps.
    gradient: "exact", the discrete adjoint; "direct", backpropagation through all steps, whose memory grows with them;
    "adjoint", torchdiffeq's continuous adjoint, which is off by O(h). keep: of the exact one, how many last steps keep
    their graph. dtype: of the state, None for that of what is walked; a module still gets its parameters' own.
    rtol, atol: of an adaptive solver.

    Raises UserError for a name that is not known, fewer than one step, or tolerances that are not positive.
    """

    steps: int = 10
    solver: str | Solver | Adaptive = "euler"
    gradient: str = "exact"
    keep: int = KEEP
    dtype: torch.dtype | None = None
    rtol: float = 1e-5
    atol: float = 1e-5

    @property
    def name(self) -> str:
        """Of the solver."""
        return registry.name_of(self.solver)

    @property
    def adaptive(self) -> bool:
        """Whether the solver chooses its own steps."""
        return isinstance(any_solver(self.solver), Adaptive)

    def __post_init__(self) -> None:
        found = any_solver(self.solver)
        if not isinstance(self.gradient, str) or self.gradient not in GRADIENTS:
            raise UserError(f"gradient {shown(self.gradient)} is not known; type one of {', '.join(GRADIENTS)}")
        if self.gradient == "adjoint" and not isinstance(found, Adaptive) and not found.torchdiffeq_name:
            raise UserError(f'solver {self.name!r} has no gradient="adjoint"; type gradient="exact", or solver="euler"')
        if not all(isinstance(number, Integral) and number >= 1 for number in (self.steps, self.keep)):
            raise UserError(
                f"steps={shown(self.steps)}, keep={shown(self.keep)}; a walk takes 1 step or more, and keeps 1 or more"
            )
        if not all(isinstance(number, Real) and number > 0 for number in (self.rtol, self.atol)):
            raise UserError(f"rtol={shown(self.rtol)}, atol={shown(self.atol)}; type positive numbers, such as 1e-5")
