"""Walks by torchdiffeq: solvers that choose their own steps, and its continuous adjoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bothways.numerics.discrete_adjoint import leaves_of
from bothways.numerics.modules import module_of, untouched
from bothways.numerics.solvers import Adaptive, any_solver, grid
from bothways.representation.walk import Walk
from bothways.types import RunError, UserError, VectorField


def needs_gradient(v: VectorField, x: Tensor) -> bool:
    """Whether one may be: of a callable that is no module nobody knows before it has run."""
    module = module_of(v)
    trained = module is None or any(p.requires_grad for p in module.parameters())
    return torch.is_grad_enabled() and (x.requires_grad or trained)


def by_torchdiffeq(v: VectorField, x: Tensor, start: float, end: float, how: Walk) -> Tensor:
    """x at ``end`` of what is x (B,...) at ``start``, by torchdiffeq: an adaptive solver, or its continuous adjoint.

    Raises UserError where torchdiffeq is missing, and for exact gradients; RunError where a solver cannot go on.
    """
    try:
        from torchdiffeq import odeint, odeint_adjoint
    except ImportError as error:
        asked = f"solver {how.name!r}" if how.adaptive else f"gradient {how.gradient!r}"
        raise UserError(f'{asked} needs torchdiffeq, which is not here; type pip install "bothways[ode]"') from error
    adaptive, v = how.adaptive, untouched(v)
    refusal = UserError(
        f'solver {how.name!r} has no gradient="exact"; type gradient="direct", or walk under torch.no_grad()'
    )
    exact = how.gradient == "exact"
    if exact and module_of(v) is not None and needs_gradient(v, x):
        raise refusal
    times = torch.tensor([start, end] if adaptive else grid(start, end, how.steps), dtype=torch.float64)
    options: dict[str, Any] = {"rtol": how.rtol, "atol": how.atol, "method": _method(how)}

    def field(t: Tensor, x: Tensor) -> Tensor:
        return v(x, t.to(x.dtype).expand(len(x)))

    try:
        if how.gradient == "adjoint":
            options["adjoint_params"] = tuple(_trained(v, x, start))
            result = odeint_adjoint(field, x, times.to(x.device), **options)[-1]
        else:
            result = odeint(field, x, times.to(x.device), **options)[-1]
    except AssertionError as error:  # torchdiffeq's word for a step that became too small, and for what is not finite
        said = str(error).splitlines()[0][:80] if str(error) else "it stopped"
        raise RunError(f"solver {how.name!r}: {said}; raise rtol and atol, or type dtype=torch.float64") from error
    if exact and result.requires_grad:
        raise refusal
    return result


def _method(how: Walk) -> str:
    """The solver's name in torchdiffeq."""
    found = any_solver(how.solver)
    return found.method if isinstance(found, Adaptive) else found.torchdiffeq_name


def _trained(v: VectorField, x: Tensor, start: float) -> list[Tensor]:
    """What the continuous adjoint gives gradients of: a module's parameters, else the leaves of one evaluation."""
    module = module_of(v)
    if module is not None:
        return [p for p in module.parameters() if p.requires_grad]
    return leaves_of([v(x.detach(), torch.full((len(x),), start, dtype=x.dtype, device=x.device))])
