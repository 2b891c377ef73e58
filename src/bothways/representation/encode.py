"""Encoding of images to noise and decoding back by integrating a flow's ODE.

dx/dt = v(x, t),   t = 0 noise, t = 1 image,   depth = 1 - t

Encoding goes from t = 1 to t = 1 - depth (PRG, Xue et al. 2024, arXiv 2412.01787, sec. 3.1, whose time is the depth),
decoding goes back. Gradients are by default those of the discrete steps (numerics/discrete_adjoint.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from bothways import registry
from bothways.brief import brief, shown
from bothways.faults import check_kinds
from bothways.numerics.discrete_adjoint import integrate_exact
from bothways.numerics.modules import check_finite, is_finite, module_of
from bothways.numerics.solvers import Adaptive, Solver, State, finite, grid, last_state, solver_of, solver_states
from bothways.representation.paths import least_depth, path_of
from bothways.representation.torchdiffeq_walks import by_torchdiffeq, needs_gradient
from bothways.representation.walk import Walk
from bothways.types import Flow, UserError, VectorField

_STARTS: dict[str, float] = {}  # of the paths by name, so that a compiled classifier does not search the registry
PART = 64  # pictures that are walked at once where no gradient is needed


def walk(v: VectorField, x: Tensor, start: float, end: float, how: Walk = Walk()) -> Tensor:
    """Integrate x (B,...) from time ``start`` to ``end``, differentiable; t is 0 at noise and 1 at the image."""
    return walk_state(v, (x,), start, end, how)[0]


def walk_state(v: VectorField, state: State, start: float, end: float, how: Walk = Walk()) -> State:
    """Integrate a solver state from ``start`` to ``end``; its first tensor is x (B,...).

    state: (x,), or a returned state: reversible Heun holds (x, y, f), and inverts the walk with the same steps, exactly
    but for rounding. Times of a flow on the path "vp" are clamped at that path's least depth, since its velocity is
    infinite at the image. If start is end, the state is returned as it is.

    Raises UserError for a state of another solver, and for gradient="exact" with an adaptive solver; RunError if an
    adaptive solver fails.
    """
    start, end = _within(v, start, end)
    if start == end:
        return state
    v, state = _in_precision(v, state, how)
    if how.adaptive or how.gradient == "adjoint":
        return (by_torchdiffeq(v, _alone(state, how), start, end, how),)
    solver, times = solver_of(how.solver), grid(start, end, how.steps)
    state = _started(v, state, start, how)
    if how.gradient == "exact":
        return integrate_exact(v, state, times, solver, how.keep)
    return last_state(v, state, times, solver)


def trajectory(
    v: VectorField, x: Tensor, start: float, end: float, how: Walk = Walk()
) -> Iterator[tuple[float, Tensor]]:
    """(t, x) at the start and after each step, without gradient; an adaptive solver is evaluated at the same times."""
    start, end = _within(v, start, end)
    v, state = _in_precision(v, (x,), how)
    return _moments(v, state, grid(start, end, how.steps), how)


def encode(
    flow: Flow | VectorField,
    images: Tensor,
    depth: float = 0.5,
    steps: int = 10,
    solver: str | Solver | Adaptive = "euler",
    gradient: str = "exact",
    *,
    batch: int | None = None,
    full_state: bool = False,
    **options: Any,
) -> Any:
    """Encode images: integrate x(1) = flow.code(images) to x(1 - depth), in the flow's units.

    flow: a ``types.Flow``, with images (B,3,H,W) in [0,1]; or any velocity v(x, t), with images (B,...) as its state.
    ``bothways.encode`` and ``bothways.decode`` also take the address of a flow, or a run folder.
    depth: 0 the image, 1 noise. steps, solver, gradient, keep, dtype, rtol, atol: those of ``Walk``. batch: images per
    pass where no gradient is needed (64 if None); with gradients all are walked together. full_state: return the whole
    solver state instead of x, for ``decode`` with the same depth and steps: with reversible Heun that round trip is
    exact but for rounding.

    Raises UserError for a depth outside [0,1], images of another shape, and as ``Walk`` and ``walk_state`` do.
    """
    check_kinds("encode", full_state=(full_state, bool))
    how = Walk(steps, solver, gradient, **options)
    if isinstance(flow, Flow):
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"images: {images.dtype} {tuple(images.shape)}; give RGB pictures (B,3,H,W), float in [0,1]"
            )
        images = flow.code(images)
    state = _in_parts(flow, (images,), 1.0, 1.0 - _checked(depth), how, batch)
    return state if full_state else state[0]


def decode(
    flow: Flow | VectorField,
    encoded: Tensor | State,
    depth: float = 0.5,
    steps: int = 10,
    solver: str | Solver | Adaptive = "euler",
    gradient: str = "exact",
    *,
    batch: int | None = None,
    **options: Any,
) -> Tensor:
    """Decode: integrate an encoded state from t = 1 - depth to t = 1.

    Returns images flow.picture(x(1)), (B,3,H,W), not clamped, for a ``types.Flow``; x(1) for any other velocity.
    encoded: (B,...) at that depth, noise at depth 1; or the whole state. Options and errors are those of ``encode``.
    """
    how = Walk(steps, solver, gradient, **options)
    state = (encoded,) if isinstance(encoded, Tensor) else encoded
    if (
        not isinstance(state, tuple | list)
        or not state
        or not all(isinstance(part, Tensor) and part.ndim for part in state)
    ):
        raise UserError(f"decode: {brief(encoded)} is no state; give a tensor (B,...), or a whole state")
    x = _in_parts(flow, tuple(state), 1.0 - _checked(depth), 1.0, how, batch)[0]
    return flow.picture(x) if isinstance(flow, Flow) else x


def _checked(depth: float) -> float:
    of_one = isinstance(depth, Real) or (isinstance(depth, Tensor) and depth.numel() == 1 and not depth.is_complex())
    if not of_one or not 0 <= depth <= 1:
        raise UserError(f"depth={shown(depth)}; type a number from 0 (the picture) to 1 (noise)")
    return depth


def _in_parts(v: VectorField, state: State, start: float, end: float, how: Walk, batch: int | None) -> State:
    if batch is not None and (not isinstance(batch, int) or batch < 1):
        raise UserError(f"batch={shown(batch)}; type how many pictures are walked at once, 1 or more")
    if needs_gradient(v, state[0]):
        return _finite_end(v, state, walk_state(v, state, start, end, how), start, end, how)
    parts = zip(*(x.split(batch or PART) for x in state), strict=True)
    done = [_finite_end(v, part, walk_state(v, part, start, end, how), start, end, how) for part in parts]
    return tuple(torch.cat(tensors) for tensors in zip(*done, strict=True))


def _finite_end(v: VectorField, state: State, after: State, start: float, end: float, how: Walk) -> State:
    """What a walk came to. Raises RunError where it is not finite, with the step, for which it is walked again."""
    if is_finite(after[0]):
        return after
    check_finite(state[0], "what is walked holds values", "give finite ones")
    for _ in trajectory(v, state[0], start, end, how):
        pass
    check_finite(after[0], "the walk ends in values", "type dtype=torch.float32")
    return after


def image_time(v: VectorField | Flow) -> float:
    """Start time of a walk from the image: 1, or 1 - least depth for a path with infinite velocity at the image.

    At that time the clean image is used as x_t.
    """
    stated = getattr(getattr(v, "spec", None), "path", None)
    if stated in _STARTS:
        return _STARTS[stated]
    known = stated is not None and (registry.is_address(stated) or stated in registry.names("path"))
    start = 1.0 - (least_depth(path_of(stated)) if known else 0.0)
    if stated is not None and known and not registry.is_address(stated):  # a file of the user's may change
        _STARTS[stated] = start
    return start


def _within(v: VectorField, start: float, end: float) -> tuple[float, float]:
    latest = image_time(v)
    return (min(start, latest), min(end, latest)) if latest < 1 else (start, end)


def _in_precision(v: VectorField, state: State, how: Walk) -> tuple[VectorField, State]:
    """The state in the requested dtype, and v as a field in that dtype."""
    module, present = module_of(v), state[0].dtype
    parameters = module.parameters() if module is not None else iter(())
    own = next((p.dtype for p in parameters if p.is_floating_point()), present)
    wanted = how.dtype or present
    casts = own == wanted or isinstance(v, Flow)  # a flow works in its network's precision by itself
    return v if casts else partial(_cast, v, own), tuple(x.to(wanted) for x in state)


def _cast(v: VectorField, own: torch.dtype, x: Tensor, t: Tensor) -> Tensor:
    return v(x.to(own), t.to(own)).to(x.dtype)


def _alone(state: State, how: Walk) -> Tensor:
    if len(state) > 1:
        raise UserError(
            f"the state has {len(state)} tensors, but solver {how.name!r} has another state; "
            'type solver="reversible-heun", or give its first tensor alone'
        )
    return state[0]


def _started(v: VectorField, state: State, start: float, how: Walk) -> State:
    solver = solver_of(how.solver)
    whole = len(state) > 1 and len(state) == solver.state_size
    return state if whole else solver.start(v, _alone(state, how), start)


@torch.no_grad()
def _moments(v: VectorField, state: State, times: list[float], how: Walk) -> Iterator[tuple[float, Tensor]]:
    yield times[0], state[0]
    if how.adaptive:
        for t, following in pairwise(times):
            state = (by_torchdiffeq(v, state[0], t, following, how),)
            yield following, state[0]
        return
    steps = solver_states(v, _started(v, state, times[0], how), times, solver_of(how.solver))
    for t, state in zip(times[1:], finite(v, steps, times), strict=True):
        yield t, state[0]
