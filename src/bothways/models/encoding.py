"""``encode`` and ``decode`` for flows given by a run, an address or an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from bothways.models.loader import load_flow
from bothways.numerics.solvers import Adaptive, Solver
from bothways.representation import encode as walking


def encode(
    flow: Any,
    images: Tensor,
    depth: float = 0.5,
    steps: int = 10,
    solver: str | Solver | Adaptive = "euler",
    gradient: str = "exact",
    **options: Any,
) -> Any:
    """Encode images by integrating dx/dt = v(x, t) from t = 1 to t = 1 - depth (Xue et al. 2024, sec. 3.1).

    flow: an address or result of ``load_flow`` (images (B,3,H,W) in [0,1]; the result is in the flow's units), or any
        module or callable v(x, t) (images are then its x).
    depth: 0 the image, 1 noise. solver: a name, PATH.py:NAME, or a ``Solver`` made by ``fixed_grid``; those of
        torchdiffeq have adaptive steps.
    gradient: "exact", the discrete adjoint in the memory of a few steps; "direct", backpropagation through all steps;
        "adjoint", torchdiffeq's continuous adjoint, off by O(h).
    options: keep, dtype, batch, rtol, atol, full_state, see ``bothways.representation.encode.encode``.
    Raises UserError for invalid values. Source: Xue et al. 2024, arXiv 2412.01787, sec. 3.1.
    """
    return walking.encode(_loaded(flow), images, depth, steps, solver, gradient, **options)


def decode(
    flow: Any,
    encoded: Any,
    depth: float = 0.5,
    steps: int = 10,
    solver: str | Solver | Adaptive = "euler",
    gradient: str = "exact",
    **options: Any,
) -> Tensor:
    """Decode from t = 1 - depth to t = 1: images, not clamped, of a flow; x of a callable. See ``encode``."""
    return walking.decode(_loaded(flow), encoded, depth, steps, solver, gradient, **options)


def _loaded(flow: Any) -> Any:
    """Load a flow from an address, without parameter gradients, so that no graph is kept; objects pass through."""
    return load_flow(flow).requires_grad_(False) if isinstance(flow, str | Path) else flow
