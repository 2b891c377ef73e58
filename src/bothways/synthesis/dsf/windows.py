"""The windows of convolutions: which places of the input the places of the output see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from torch import Tensor

from bothways.synthesis.dsf.second_order import Pair


@dataclass(frozen=True)
class Window:
    """The window of a convolution: its kernel, and how it is moved."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @cached_property
    def in_the_middle(self) -> bool:
        """Whether each place of the output has one of the input, in the middle of what it sees."""
        return all(
            step == 1 and size % 2 and 2 * edge == apart * (size - 1)
            for size, step, edge, apart in zip(self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )

    def joining(self, gram: Tensor, spare: Tensor, wide: int) -> Callable[[], Tensor]:
        """What makes inner products of all that two places see of those of the places, (n,P,P), ``wide`` in a row.

        It writes to both tensors, and returns one of them. Rows end with as many places of zeros as the kernel reaches
        to a side; the result there is of no use.
        """
        steps = []
        for size, apart in zip(self.kernel, (self.dilation[0] * wide, self.dilation[1]), strict=True):
            pairs = []
            for move in range(apart, min(gram.shape[1], apart * (size // 2) + 1), apart):
                early, late = (slice(None), *2 * [slice(None, -move)]), (slice(None), *2 * [slice(move, None)])
                pairs += [(spare[early], gram[late]), (spare[late], gram[early])]
            if pairs:
                steps.append((spare, gram, pairs))
                gram, spare = spare, gram

        def join() -> Tensor:
            for total, own, pairs in steps:
                total.copy_(own)
                for part, moved in pairs:
                    part += moved
            return gram

        return join


@dataclass(frozen=True)
class Grid:
    """The places of a convolution's output (N,h,w,D), and what they see of its input (N,H,W,C), as rows of matrices.

    The input's rows and columns that are ``stride`` apart are a phase. Through one place of the kernel, the places of
    the output see one run of rows of one phase, if the output is given as many columns as the phase has, those beyond
    its own zero. So products of matrices take views, and nothing is copied for them but the phases.
    """

    window: Window
    output: Pair

    @cached_property
    def size(self) -> Pair:
        """Rows and columns of a phase: those of the output, and as many more as the kernel reaches."""
        of = self.window
        rows, columns = (
            length + (size - 1) * apart // step
            for length, size, apart, step in zip(self.output, of.kernel, of.dilation, of.stride, strict=True)
        )
        return rows, columns

    def count(self, views: int) -> int:
        """Rows from the first place of the output to the last, of all views of a picture."""
        (height, width), (high, wide) = self.output, self.size
        return (views - 1) * high * wide + (height - 1) * wide + width

    def phases(self, x: Tensor, pictures: int) -> tuple[Tensor, list[Tensor]]:
        """Zeros for maps (N,H,W,C) and the padding around them, (phases, n groups, rows, C / groups), and ``on_maps``
        of these."""
        parts = self.parts(x, pictures)
        made = x.new_zeros(math.prod(self.window.stride), *parts.shape[:3], *self.size, parts.shape[5])
        inside = [phase[at] for phase, (at, _) in zip(made, self._places(x.shape), strict=True)]
        return made.flatten(3, 5).flatten(1, 2), inside

    def on_maps(self, x: Tensor, pictures: int) -> list[Tensor]:
        """For each phase what it has of maps (N,H,W,C), a view."""
        parts = self.parts(x, pictures)
        return [parts[at] for _, at in self._places(x.shape)]

    def seen(self, phases: Tensor, views: int) -> Iterator[Tensor]:
        """For each place of the kernel, its run of rows (n groups, rows, C / groups)."""
        of, count = self.window, self.count(views)
        for place in product(*map(range, of.kernel)):
            (down, row), (right, column) = (
                divmod(at * apart, step) for at, apart, step in zip(place, of.dilation, of.stride, strict=True)
            )
            first = down * self.size[1] + right
            yield phases[row * of.stride[1] + column][:, first : first + count]

    def rows(self, d: Tensor, pictures: int) -> tuple[Tensor, Tensor]:
        """Zeros for maps (N,h,w,D), (n groups, rows, D / groups), and ``parts`` of these."""
        parts = self.parts(d, pictures)
        (high, wide), (n, groups, views, *_, channels) = self.size, parts.shape
        count = self.count(views)
        made = d.new_zeros(n * groups, count, channels)
        apart = (groups * count, count, high * wide, wide, 1)
        return made, made.as_strided(parts.shape, (*(step * channels for step in apart), 1))

    def parts(self, maps: Tensor, pictures: int) -> Tensor:
        """(N,H,W,C) -> (pictures, groups, views, H, W, C / groups), a view."""
        return maps.unflatten(3, (self.window.groups, -1)).unflatten(0, (pictures, -1)).permute(0, 4, 1, 2, 3, 5)

    def _places(self, x: Sequence[int]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """For each phase its places that are not padding, and which places of the maps (N,H,W,C) these are."""
        of = self.window
        axes = [
            [_common(at - edge, step, length, size) for at in range(step)]
            for edge, step, length, size in zip(of.padding, of.stride, self.size, x[1:3], strict=True)
        ]
        for row, column in product(*axes):
            inside, at = zip(row, column, strict=True)
            yield (..., *inside, slice(None)), (..., *at, slice(None))


def _common(first: int, step: int, length: int, size: int) -> tuple[slice, slice]:
    """Which k < length have first + k step in 0 to size - 1, and these."""
    begin = max(0, -(first // step))
    start = first + begin * step
    count = max(0, min(length - begin, -((start - size) // step)))
    return slice(begin, begin + count), slice(start, start + count * step, step)
