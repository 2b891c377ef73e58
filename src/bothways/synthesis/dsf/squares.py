"""Squared norms of the parameter gradient of every picture by itself, and their derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.synthesis.dsf.second_order import Pair

MANY = 4  # places times this are compared with the numbers that one of them sees: a Gram matrix is memory, not products


@dataclass(frozen=True)
class Window:
    """The window of a convolution: its kernel, and how it is moved."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def by_grams(self, x: Sequence[int], d: Sequence[int]) -> bool:
        """Whether Gram matrices of the places of maps (N,C,H,W) and (N,D,h,w) are less work than the weights.

        They can be taken where there is a place of the output for each of the input, in its middle.
        """
        middle = all(
            step == 1 and size % 2 and 2 * edge == apart * (size - 1)
            for size, step, edge, apart in zip(self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        few = MANY * x[2] * x[3] < self.kernel[0] * self.kernel[1] * min(x[1], d[1])
        return middle and few and self.groups == 1

    def joined(self, gram: Tensor) -> Tensor:
        """Inner products of what two places see, (N,H,W,H,W), from those of the places themselves."""
        for axis, (size, apart) in enumerate(zip(self.kernel, self.dilation, strict=True), start=1):
            total, length = gram.clone(), gram.shape[axis]
            for step in range(apart, min(length, apart * (size // 2) + 1), apart):
                early, late = (_both(axis, slice(0, length - step)), _both(axis, slice(step, length)))
                total[early] += gram[late]
                total[late] += gram[early]
            gram = total
        return gram

    def padded(self, x: Tensor) -> Tensor:
        """(N,H,W,C) with the padding around it."""
        (up, left) = self.padding
        return F.pad(x, (0, 0, left, left, up, up))

    def inside(self, padded: Tensor, x: Sequence[int]) -> Tensor:
        """What was padded, (N,H,W,C)."""
        (up, left) = self.padding
        return padded[:, up : up + x[1], left : left + x[2]]

    def places(self, d: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """For each place of the kernel, what it sees of a padded map (N,H,W,C) for an output (N,h,w,D)."""
        for place in product(*map(range, self.kernel)):
            yield (
                slice(None),
                *(
                    slice(first, first + step * (count - 1) + 1, step)
                    for first, step, count in zip(map(mul, place, self.dilation), self.stride, d[1:3], strict=True)
                ),
            )

    def rows(self, maps: Tensor, pictures: int) -> Tensor:
        """(N,h,w,C) -> (n groups, views h w, C / groups)."""
        parts = maps.reshape(pictures, -1, self.groups, maps.shape[3] // self.groups)
        return parts.transpose(1, 2).flatten(0, 1)

    def maps(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """The inverse of ``rows``, (N,h,w,C)."""
        return rows.unflatten(0, (-1, self.groups)).transpose(1, 2).reshape(*shape)


def gram_of(x: Tensor) -> Tensor:
    """Inner products of the places of maps in channels last, (n,H,W,C) -> (n,H,W,H,W)."""
    flat = x.flatten(1, 2)
    return (flat @ flat.mT).view(*x.shape[:3], *x.shape[1:3])


def _both(axis: int, part: slice) -> tuple[slice, ...]:
    """That part of an axis of both places."""
    index = [slice(None)] * 5
    index[axis] = index[axis + 2] = part
    return tuple(index)


# ---- squared norms -------------------------------------------------------------------------------------------------


class Square(torch.autograd.Function):
    """|| sum_p b_p a_p^T ||^2 of each row, a (n,P,A), b (n,P,B) -> (n,)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        (places, high), wide = a.shape[1:], b.shape[2]
        ctx.gram = 2 * places * (high + wide) < 3 * high * wide  # of the products, backward too
        kept = (a @ a.mT, b @ b.mT) if ctx.gram else (b.mT @ a,)
        ctx.save_for_backward(a, b, *kept)
        return (kept[0] * kept[-1]).sum((1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b, *kept = ctx.saved_tensors
        first, last = (2 * grads[0][:, None, None] * part for part in (kept[0], kept[-1]))
        return (last @ a, first @ b) if ctx.gram else (b @ first, a @ first.mT)


class ByGrams(torch.autograd.Function):
    """Of the weights of a convolution by Gram matrices, x and d in channels last, (n,H,W,C) and (n,H,W,D) -> (n,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor, window: Window) -> Tensor:
        grams = [gram_of(part) for part in (x, d)]
        seen = [window.joined(gram).flatten(3).flatten(1, 2) for gram in grams]
        ctx.save_for_backward(x, d, *seen)
        return (seen[0] * grams[1].view_as(seen[0])).sum((1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, d, *seen = ctx.saved_tensors
        flat = [part.flatten(1, 2) for part in (x, d)]
        of_x, of_d = (2 * grads[0].view(-1, 1, 1) * part for part in seen)
        return (of_d @ flat[0]).view_as(x), (of_x @ flat[1]).view_as(d), None


class ByWeights(torch.autograd.Function):
    """Of the weights of a convolution, x (N,H,W,C) and d (N,h,w,D) in channels last -> (n,), N / n views each.

    One place of the kernel at a time: what a cache holds, where all that is seen would be memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor, window: Window, pictures: int) -> Tensor:
        rows, padded = window.rows(d, pictures), window.padded(x)
        places = list(window.places(d.shape))
        # (n groups, kernel, D / groups, C / groups)
        matrices = rows.new_empty(len(rows), len(places), rows.shape[2], x.shape[3] // window.groups)
        for k, at in enumerate(places):
            torch.bmm(rows.mT, window.rows(padded[at], pictures), out=matrices[:, k])
        ctx.save_for_backward(x, d, matrices)
        ctx.window, ctx.pictures = window, pictures
        return torch.linalg.vector_norm(matrices.view(pictures, -1), dim=1).square()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (x, d, matrices), window, pictures = ctx.saved_tensors, ctx.window, ctx.pictures
        padded, rows = window.padded(x), window.rows(d, pictures)
        twice = (2 * grads[0]).repeat_interleave(window.groups)[:, None, None]
        scaled, of_d, of_x = twice * rows, torch.zeros_like(rows), torch.zeros_like(padded)
        for k, at in enumerate(window.places(d.shape)):
            of_d.baddbmm_(window.rows(padded[at], pictures), matrices[:, k].mT)
            of_x[at] += window.maps(scaled @ matrices[:, k], (*d.shape[:3], x.shape[3]))
        return window.inside(of_x, x.shape), window.maps(of_d.mul_(twice), d.shape), None, None


class Sums(torch.autograd.Function):
    """sum_p d_p and sum_p d_p x_p of each channel of each row, (N,C,...) twice -> (N,C) twice."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(d, x)
        over = tuple(range(2, d.ndim))
        return d.sum(over), (d * x).sum(over)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        d, x = ctx.saved_tensors
        plain, with_x = (grad.reshape(*grad.shape, *[1] * (d.ndim - 2)) for grad in grads)
        return torch.addcmul(plain, x, with_x), d * with_x


def of_vectors(rows: Tensor, pictures: int) -> Tensor:
    """Of rows (N,C) that are summed over the views of a picture."""
    return rows.unflatten(0, (pictures, -1)).sum(1).square().sum(1)
