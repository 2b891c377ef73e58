"""Squared norms of the gradient in a weight of every picture by itself, and their derivatives.

The norms are of some pictures at a time, with their derivatives: what is made on the way stays in a cache, in memory
that is used again, and only the derivatives are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.synthesis.dsf.windows import Grid, Window

CACHE = 2**19  # numbers that are made on the way at a time: 2 MiB
JOINS = 100  # products in the time that joining a place of two Gram matrices takes
NARROW = 16  # columns that a product of matrices should have
Made = tuple[Tensor, Tensor, Tensor]
"""The squared norms s (n,) of pictures, and half of ds / dx and of ds / dd, of their maps x and d (N,...)."""
Work = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
"""(x, d, s, of_x, of_d): write ``Made`` of x and d to the rest."""
Way = Callable[[Tensor, Tensor, int], Work]
"""(x, d, n): the work for n pictures of such maps, with the memory for it."""


def squared(x: Tensor, d: Tensor, pictures: int, numbers: int, way: Way) -> Made:
    """Of x (N,...) and d (N,...), of n pictures and N / n views of each, whose work makes so many numbers a picture."""
    times = math.ceil(pictures / max(1, CACHE // numbers)) if x.device.type == "cpu" else 1
    some = math.ceil(pictures / times)
    made = x.new_empty(pictures), torch.empty_like(x), torch.empty_like(d)
    views, works = len(x) // pictures, dict[int, Work]()
    for first in range(0, pictures, some):
        count = min(some, pictures - first)
        rows = slice(first * views, (first + count) * views)
        if count not in works:  # the last ones may be fewer
            works[count] = way(x[rows], d[rows], count)
        works[count](x[rows], d[rows], made[0][first : first + count], made[1][rows], made[2][rows])
    return made


def linear(x: Tensor, d: Tensor, pictures: int) -> Made:
    """Of the weights of a linear map, x (N,...,C) and d (N,...,D)."""

    def work(x: Tensor, d: Tensor, s: Tensor, of_x: Tensor, of_d: Tensor) -> None:
        a, b = (part.reshape(len(s), -1, part.shape[-1]) for part in (x, d))
        found = by_rows(a, b, s)
        for part, own in zip((of_x, of_d), found, strict=True):
            part.copy_(own.view(part.shape))

    return squared(x, d, pictures, 2 * (x.numel() + d.numel()) // pictures, lambda *_: work)


def convolution(x: Tensor, d: Tensor, window: Window, pictures: int) -> Made:
    """Of the weights of a convolution, x (N,C,H,W) and d (N,D,h,w), in the way that takes the least products."""
    kernel, seen, out = math.prod(window.kernel), x.shape[1], d.shape[1]
    places = d.shape[2] * d.shape[3] * len(d) // pictures
    one = kernel * seen * out // window.groups  # products of a place with the weights
    least, way, made = 3 * places * one, by_weights, one
    if window.groups == 1 and seen < NARROW:
        way, made = by_columns, 2 * places * kernel * seen
    elif (of_seen := 2 * places**2 * (kernel * seen + out)) < least:
        least, way, made = of_seen, by_seen, 2 * window.groups * places**2
    of_grams = places**2 * (2 * (seen + out) + JOINS)
    if of_grams < least and window.in_the_middle and window.groups == 1 and len(x) == pictures:
        way, made = by_grams, 2 * places**2
    numbers = made + 2 * (x.numel() + d.numel()) // pictures
    return squared(x, d, pictures, numbers, lambda x, d, pictures: way(x, d, window, pictures))


def by_rows(a: Tensor, b: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Write s = || sum_p b_p a_p^T ||^2 to s, a (n,P,A), b (n,P,B). Returns half of its derivatives."""
    (places, high), wide = a.shape[1:], b.shape[2]
    if 2 * places * (high + wide) < 3 * high * wide:
        first, last = a @ a.mT, b @ b.mT
        torch.sum(first * last, (1, 2), out=s)
        return last @ a, first @ b
    matrix = b.mT @ a
    torch.sum(matrix.square(), (1, 2), out=s)
    return b @ matrix, a @ matrix.mT


def by_columns(x: Tensor, d: Tensor, window: Window, pictures: int) -> Work:
    """By all that each place sees, in one matrix a picture."""
    how = (window.kernel, window.dilation, window.padding, window.stride)

    def work(x: Tensor, d: Tensor, s: Tensor, of_x: Tensor, of_d: Tensor) -> None:
        a, b = (part.mT.reshape(len(s), -1, part.shape[1]) for part in (F.unfold(x, *how), d.flatten(2)))
        columns, own = (part.reshape(len(x), -1, part.shape[2]).mT for part in by_rows(a, b, s))
        of_x.copy_(F.fold(columns, (x.shape[2], x.shape[3]), *how))
        of_d.copy_(own.unflatten(2, d.shape[2:]))

    return work


def by_grams(x: Tensor, d: Tensor, window: Window, pictures: int) -> Work:
    """By the Gram matrices of the places, with a margin of zeros at the end of every row."""
    (height, width), margin = x.shape[2:], window.dilation[1] * (window.kernel[1] // 2)
    wide = width + margin

    def rows(maps: Tensor) -> tuple[Tensor, Tensor]:
        made = maps.new_zeros(pictures, height * wide, maps.shape[1])
        return made, made.view(pictures, height, wide, -1)[:, :, :width].permute(0, 3, 1, 2)

    (a, on_a), (b, on_b), (of_a, on_of_a), (of_b, on_of_b) = (rows(maps) for maps in (x, d, x, d))
    gram, spare = (x.new_empty(pictures, height * wide, height * wide) for _ in range(2))
    join = window.joining(gram, spare, wide)

    def work(x: Tensor, d: Tensor, s: Tensor, of_x: Tensor, of_d: Tensor) -> None:
        on_a.copy_(x)
        on_b.copy_(d)
        for own, other, of_other in ((a, b, of_b), (b, a, of_a)):
            torch.bmm(own, own.mT, out=gram)
            torch.bmm(join(), other, out=of_other)
        of_x.copy_(on_of_a)
        of_d.copy_(on_of_b)
        torch.sum(of_b * b, (1, 2), out=s)

    return work


def by_weights(x: Tensor, d: Tensor, window: Window, pictures: int) -> Work:
    """By the gradient in the weights itself, one place of the kernel at a time."""
    on = _OnGrid(x, d, window, pictures)
    # (kernel, n groups, D / groups, C / groups)
    matrices = d.new_empty(math.prod(window.kernel), len(on.rows), on.rows.shape[2], on.phases.shape[3])

    def work(x: Tensor, d: Tensor, s: Tensor, of_x: Tensor, of_d: Tensor) -> None:
        on.read(x, d)
        on.of_rows.zero_()
        for matrix, seen, of_seen in zip(matrices, on.seen, on.of_seen, strict=True):
            torch.bmm(on.rows.mT, seen, out=matrix)
            on.of_rows.baddbmm_(seen, matrix.mT)
            of_seen.baddbmm_(on.rows, matrix)
        on.write(of_x, of_d)
        s.copy_(torch.linalg.vector_norm(matrices.view(len(matrices), pictures, -1), dim=2).square().sum(0))

    return work


def by_seen(x: Tensor, d: Tensor, window: Window, pictures: int) -> Work:
    """By the Gram matrices of what the places see."""
    on = _OnGrid(x, d, window, pictures)
    gram, own = (d.new_empty(*on.rows.shape[:2], on.rows.shape[1]) for _ in range(2))

    def work(x: Tensor, d: Tensor, s: Tensor, of_x: Tensor, of_d: Tensor) -> None:
        on.read(x, d)
        torch.bmm(on.rows, on.rows.mT, out=own)
        gram.zero_()
        for seen, of_seen in zip(on.seen, on.of_seen, strict=True):
            gram.baddbmm_(seen, seen.mT)
            of_seen.baddbmm_(own, seen)
        torch.bmm(gram, on.rows, out=on.of_rows)
        on.write(of_x, of_d)
        s.copy_((on.of_rows * on.rows).view(pictures, -1).sum(1))

    return work


class _OnGrid:
    """Memory for maps (n,C,H,W) and (n,D,h,w) as rows of matrices, and for the derivatives in them."""

    def __init__(self, x: Tensor, d: Tensor, window: Window, pictures: int) -> None:
        x, d = (part.permute(0, 2, 3, 1) for part in (x, d))
        self.grid, self.pictures, views = Grid(window, (d.shape[1], d.shape[2])), pictures, len(d) // pictures
        self.phases, self.on_phases = self.grid.phases(x, pictures)
        self.of_phases, self.on_of_phases = self.grid.phases(x, pictures)
        self.rows, self.on_rows = self.grid.rows(d, pictures)
        self.of_rows, self.on_of_rows = self.grid.rows(d, pictures)
        self.seen, self.of_seen = (list(self.grid.seen(part, views)) for part in (self.phases, self.of_phases))
        self.whole = sum(part.numel() for part in self.grid.on_maps(x, pictures)) == x.numel()

    def read(self, x: Tensor, d: Tensor) -> None:
        x, d = (part.permute(0, 2, 3, 1) for part in (x, d))
        for into, part in zip(self.on_phases, self.grid.on_maps(x, self.pictures), strict=True):
            into.copy_(part)
        self.on_rows.copy_(self.grid.parts(d, self.pictures))
        self.of_phases.zero_()

    def write(self, of_x: Tensor, of_d: Tensor) -> None:
        of_x, of_d = (part.permute(0, 2, 3, 1) for part in (of_x, of_d))
        if not self.whole:  # some of it is not seen
            of_x.zero_()
        for into, part in zip(self.grid.on_maps(of_x, self.pictures), self.on_of_phases, strict=True):
            into.copy_(part)
        self.grid.parts(of_d, self.pictures).copy_(self.on_of_rows)
