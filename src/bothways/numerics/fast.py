"""Operations of a drawing whose gradients torch takes in more passes over the pictures; the same to the bit.

At 224 pixels a step beside a small network is bound by memory: what counts is how often the pictures are read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Offsets = list[list[list[int]]]
"""(down, right) of each copy of each picture."""


class _Clipped(torch.autograd.Function):
    """One pass backward in place of four."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor) -> Tensor:
        ctx.save_for_backward(seen)
        return seen.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (seen,), kind = ctx.saved_tensors, torch.finfo(grads[0].dtype)
        # zero outside the open interval between the neighbours of 0 and 1, which is outside of [0, 1] itself
        return torch.ops.aten.hardtanh_backward(grads[0], seen, -kind.smallest_normal * kind.eps, 1 + kind.eps)


def clipped(seen: Tensor) -> Tensor:
    """A tensor clamped to [0, 1]; the gradient passes where it is within, both ends included. Differentiable once."""
    return _Clipped.apply(seen)


class _Rolled(torch.autograd.Function):
    """A block of rows and columns at a time, in place of an index of 8 bytes for every number."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, offsets: Offsets) -> Tensor:
        ctx.offsets = offsets
        return _moved(seen, offsets, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _moved(grads[0], ctx.offsets, -1), None


def _moved(seen: Tensor, offsets: Offsets, way: int) -> Tensor:
    found = seen.new_empty(seen.shape)
    for picture, those in enumerate(offsets):
        for copy, offset in enumerate(those):
            rows, columns = (_blocks(way * own, size) for own, size in zip(offset, seen.shape[-2:], strict=True))
            for to_rows, from_rows in rows:
                for to_columns, from_columns in columns:
                    found[picture, copy, :, to_rows, to_columns] = seen[picture, copy, :, from_rows, from_columns]
    return found


def _blocks(offset: int, size: int) -> list[tuple[slice, slice]]:
    """(where to, where from) of what stays inside when ``size`` places are moved on, and of what is wrapped."""
    first = offset % size
    return [(slice(first, size), slice(0, size - first)), (slice(0, first), slice(size - first, size))]


def rolled(seen: Tensor, offsets: Offsets) -> Tensor:
    """Copies (B,n,3,H,W), each rolled by its own offset, as torch.roll does. Differentiable once."""
    return _Rolled.apply(seen, offsets)


class _LaidOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, seen: Tensor) -> Tensor:
        return seen.view_as(seen)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].contiguous()


def laid_out(seen: Tensor) -> Tensor:
    """Itself. Its gradient, which models give in channels last, is laid out once, for all the views behind."""
    return _LaidOut.apply(seen)
