"""Layers with parameters: the map, its transpose, and the norm of every picture's gradient in its parameters.

    y = A x + c,   d = dl/dy,   s = || dl / d parameter ||^2 of each picture, a function of x and d

``squares`` gives s, with what its derivatives are made of; ``slopes`` the gradients in x and d of <u, A^T d> + <g, s>.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.synthesis.dsf.second_order import Pair, transposed
from bothways.synthesis.dsf.squares import Made, convolution, linear
from bothways.synthesis.dsf.windows import Window

Slopes = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer. names: of its weight and its bias, None where it has no norm. pictures: n, of N / n views each."""

    weight: Any  # a tensor; None is possible in a normalisation
    bias: Any  # a tensor, or None
    names: tuple[str | None, str | None]
    pictures: int
    channel = 1  # the dimension of the channels

    def forward(self, x: Tensor) -> Tensor:
        """A x + c."""
        raise NotImplementedError

    def back(self, d: Tensor) -> Tensor:
        """A^T d."""
        raise NotImplementedError

    def along(self, u: Tensor) -> Tensor:
        """A u, in memory of its own."""
        raise NotImplementedError

    def made(self, x: Tensor, d: Tensor) -> Made:
        """s of the weight (n,), and half of its derivatives in x and in d."""
        raise NotImplementedError

    def squares(self, x: Tensor, d: Tensor) -> tuple[list[Tensor], Any]:
        """s (n,) of the weight and of the bias, where they have names, and what ``slopes`` takes beside."""
        made = self.made(x, d) if self.names[0] else None
        sums = self.summed(d) if self.names[1] else None
        found = [*([made[0]] if made else []), *([] if sums is None else [sums.square().sum(1)])]
        return found, (made, sums, d.shape)

    def slopes(self, u: Tensor | None, g: tuple[Tensor, ...], kept: Any) -> Slopes:
        """The gradients in x and d. They may be in the memory of what ``squares`` gave, which serves once."""
        (made, sums, shape), of_x, of_d = kept, None, None if u is None else self.along(u)
        if made:
            _, of_x, own = made
            of_x.mul_(self.beside(2 * g[0][:, None], of_x))
            twice = self.beside(2 * g[0][:, None], own)
            of_d = own.mul_(twice) if of_d is None else of_d.addcmul_(own, twice)
        if sums is not None:
            own = self.beside(2 * g[-1][:, None] * sums, torch.empty(shape, device="meta"))
            of_d = own.expand(shape) if of_d is None else of_d.add_(own)
        return of_x, of_d

    def summed(self, maps: Tensor) -> Tensor:
        """Sums over the places and the views of a picture, (N,C,...) -> (n,C)."""
        maps = maps.movedim(self.channel, 1).unflatten(0, (self.pictures, -1))
        return maps.sum([k for k in range(maps.ndim) if k not in (0, 2)])

    def beside(self, rows: Tensor, maps: Tensor) -> Tensor:
        """(n,C) or (n,1), to be broadcast with maps (N,C,...)."""
        rows = rows.repeat_interleave(len(maps) // self.pictures, 0)
        return rows.view(*rows.shape, *[1] * (maps.ndim - 2)).movedim(1, self.channel)


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """x (N,...,C) -> (N,...,D)."""

    channel = -1

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def back(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def along(self, u: Tensor) -> Tensor:
        return F.linear(u, self.weight)

    def made(self, x: Tensor, d: Tensor) -> Made:
        return linear(x, d, self.pictures)


@dataclass(frozen=True, eq=False)
class Convolution(Layer):
    """x (N,C,H,W) -> (N,D,h,w)."""

    window: Window
    size: Pair  # (H, W)

    @property
    def how(self) -> tuple[Pair, Pair, Pair, int]:
        return self.window.stride, self.window.padding, self.window.dilation, self.window.groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, *self.how)

    def back(self, d: Tensor) -> Tensor:
        return transposed(d, self.weight, self.size, *self.how)

    def along(self, u: Tensor) -> Tensor:
        return F.conv2d(u, self.weight, None, *self.how)

    def made(self, x: Tensor, d: Tensor) -> Made:
        return convolution(x, d, self.window, self.pictures)


@dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """x (N,C,...) -> scale x + shift, in eval mode: the statistics are constants."""

    mean: Tensor
    deviation: Tensor
    scale: Tensor
    shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.to_maps(self.shift, x), x, self.to_maps(self.scale, x))

    def back(self, d: Tensor) -> Tensor:
        return d * self.to_maps(self.scale, d)

    def squares(self, x: Tensor, d: Tensor) -> tuple[list[Tensor], Any]:
        plain = self.summed(d)
        weight = (self.summed(d * x) - self.mean * plain) / self.deviation if self.names[0] else None
        found = [] if weight is None else [weight.square().sum(1)]
        return [*found, plain.square().sum(1)] if self.names[1] else found, (x, d, weight, plain)

    def slopes(self, u: Tensor | None, g: tuple[Tensor, ...], kept: Any) -> Slopes:
        (x, d, weight, plain), of_x = kept, None
        of_d = torch.zeros_like(plain) if not self.names[1] else 2 * g[-1][:, None] * plain
        if weight is None:
            of_d = self.beside(of_d, d)
        else:
            by_x = 2 * g[0][:, None] * weight / self.deviation
            of_d, by_x = self.beside(of_d - by_x * self.mean, d), self.beside(by_x, d)
            of_d, of_x = torch.addcmul(of_d, x, by_x), d * by_x
        return of_x, of_d.expand(d.shape) if u is None else torch.addcmul(of_d, u, self.to_maps(self.scale, u))

    @staticmethod
    def to_maps(channels: Tensor, maps: Tensor) -> Tensor:
        """(C,), to be broadcast with maps (N,C,...)."""
        return channels.view(-1, *[1] * (maps.ndim - 2))
