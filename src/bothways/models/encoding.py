"""Walk pictures to noise and back, with a flow by its run, its address, or itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from bothways.data.given import fitted_pictures, pictures_of
from bothways.models.loader import load_flow
from bothways.numerics.solvers import Adaptive, Solver
from bothways.representation import encode as walking
from bothways.types import Flow, ModelSpec


def encode(
    flow: Any,
    images: Any,
    depth: float = 0.5,
    steps: int = 10,
    solver: str | Solver | Adaptive = "euler",
    gradient: str = "exact",
    **options: Any,
) -> Any:
    """Pictures walked from t = 1 to t = 1 - depth: dx / dt = v(x, t), in ``steps`` steps and bounded memory.

    flow: any address that ``load_flow`` takes, what it gave (images (B,3,H,W) in [0,1], or a path, pictures of PIL or
        numpy, which are fitted to the flow's size; what comes out is in the flow's own units), or any module or
        callable v(x, t) (images are then its x, as they are).
    depth: 0 the picture, 1 noise. solver: a name, PATH.py:NAME, or a ``Solver`` that ``fixed_grid`` made; an adaptive
        one of torchdiffeq chooses its own steps.
    gradient: "exact", of the steps that were made, in the memory of a few; "direct", through all of them; "adjoint",
        torchdiffeq's, off by O(h).
    options: keep, dtype, batch, rtol, atol, whole, see ``bothways.representation.encode.encode``.
    Raises UserError for what is not known. Source: Xue et al. 2024, arXiv 2412.01787, sec. 3.1.
    """
    flow = _loaded(flow)
    if isinstance(flow, Flow):
        images = _seen(images, flow.spec)
    return walking.encode(flow, images, depth, steps, solver, gradient, **options)


def decode(
    flow: Any,
    walked: Any,
    depth: float = 0.5,
    steps: int = 10,
    solver: str | Solver | Adaptive = "euler",
    gradient: str = "exact",
    **options: Any,
) -> Tensor:
    """The way back, from t = 1 - depth to t = 1: pictures, not clamped, of a flow; x of a callable. See ``encode``."""
    return walking.decode(_loaded(flow), walked, depth, steps, solver, gradient, **options)


def _seen(images: Any, spec: ModelSpec) -> Tensor:
    """A tensor as it is, in its own size; other pictures at the flow's."""
    found = pictures_of(images, "images", (spec.height, spec.width), unclamped=True)
    return found if isinstance(images, Tensor) else fitted_pictures(found, (spec.height, spec.width))


def _loaded(flow: Any) -> Any:
    """The flow itself; one from an address is not trained, so that no walk keeps a graph for it."""
    return load_flow(flow).requires_grad_(False) if isinstance(flow, str | Path) else flow
