"""The divergence of a velocity, by vector-Jacobian products of as many directions at once as fit into memory."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from bothways.budget import AtOnce
from bothways.numerics.modules import module_of, untouched
from bothways.types import VectorField

ROWS_AT_ONCE = 512  # pictures times directions per backward pass


def directions_at_once(pictures: int) -> AtOnce:
    """How many directions of so many pictures one backward pass takes, and half as many where no memory is left."""
    return AtOnce("directions of the divergence", max(1, ROWS_AT_ONCE // pictures))


def with_divergence(
    v: VectorField, x: Tensor, t: Tensor, directions: Tensor, at_once: AtOnce | None = None
) -> tuple[Tensor, Tensor]:
    """Velocity v(x, t) and sum_k d_k . J d_k, (B,): the trace for D unit vectors, Hutchinson's for signs / sqrt(K).

    x: (B,...), t: (B,), directions: (K,B,...). By vector-Jacobian products, since d . J d = d . J^T d.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = untouched(v)(x, t)
    trace = x.new_zeros(len(x))
    if velocity.requires_grad:  # else v does not depend on x and the trace is 0

        def pulled(part: slice) -> Tensor:
            some = directions[part]
            return (_pulled(v, velocity, x, some.to(velocity.dtype)) * some).flatten(2).sum((0, 2))

        for found in (at_once or directions_at_once(len(x))).parts(len(directions), pulled):
            trace = trace + found
    return velocity.detach().to(x.dtype), trace


_ONE_BY_ONE: WeakSet[nn.Module] = WeakSet()  # networks of which a layer has no backward pass for several directions


def _pulled(v: VectorField, velocity: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    """J^T d (K,B,...) of directions (K,B,...), together, or one after the other where a layer cannot (torch's vmap)."""
    options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
    module = module_of(v)
    if len(directions) > 1 and module not in _ONE_BY_ONE:  # of one, vmap would cost more and save nothing
        try:
            return torch.autograd.grad(velocity, x, directions, is_grads_batched=True, **options)[0]
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            if module is not None:
                _ONE_BY_ONE.add(module)
    return torch.stack([torch.autograd.grad(velocity, x, one, **options)[0] for one in directions])
