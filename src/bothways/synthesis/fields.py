"""Fields over pictures: callables (x, t) -> dx that add and scale.

    dsf(model) + 2.0 * toward(objective)

Since the draws of a field are a function of (seed, t), a field can be called twice at one moment and gives the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bothways.numerics.draws import Draws


class Field:
    """A direction for every picture. ``stats`` holds, after a call, what was measured on the way: {name: (B,)}."""

    stats: dict[str, Tensor]

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError

    def __add__(self, other: Field) -> Field:
        return Combined([(1.0, self), (1.0, other)])

    def __mul__(self, factor: float) -> Field:
        return Combined([(factor, self)])

    __rmul__ = __mul__


@dataclass
class Combined(Field):
    """sum_k w_k field_k(x, t). What several parts measured under one name is averaged."""

    parts: list[tuple[float, Field]]
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        found: list[tuple[str, Tensor]] = []
        for weight, part in self.parts:
            total = total + weight * part(x, t)
            found += part.stats.items()
        self.stats = averaged(found)
        return total


@dataclass
class Unit(Field):
    """field(x, t) / ||field(x, t)||_2 of each picture, so that weights mean the same for every model."""

    part: Field
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        dx = unit(self.part(x, t))
        self.stats = self.part.stats
        return dx


@dataclass
class Inside(Field):
    """A field on the picture inside a canvas with a border of so many pixels, and zero on the border."""

    part: Field
    border: int
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        edge, (high, wide) = self.border, x.shape[-2:]
        dx = self.part(x[..., edge : high - edge, edge : wide - edge], t)
        self.stats = self.part.stats
        return torch.nn.functional.pad(dx, (edge, edge, edge, edge))


@dataclass
class Clipped(Field):
    """field(x, t) with every number held within +-limit (by="value"), or every picture's L2 norm (by="norm")."""

    part: Field
    limit: float
    by: str = "value"
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        dx = self.part(x, t)
        self.stats = self.part.stats
        if self.by == "value":
            return dx.clamp(-self.limit, self.limit)
        length = dx.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return dx * (self.limit / length.clamp_min(self.limit))


@dataclass
class WhiteNoise(Field):
    """N(0, 1) in place of a gradient: what is left is what the parameterisation and the steps put in by themselves."""

    draws: Draws
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.draws.normal(x.shape[1:], float(t[0]), "null").to(x)


def averaged(found: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """(name, values) pairs -> {name: the mean of all values of that name}."""
    together: dict[str, list[Tensor]] = {}
    for name, values in found:
        together.setdefault(name, []).append(values)
    return {name: sum(values[1:], values[0]) / len(values) for name, values in together.items()}


def unit(dx: Tensor) -> Tensor:
    """Each picture's direction divided by its L2 norm; a zero direction stays zero."""
    tiny = torch.finfo(dx.dtype).tiny
    dx = dx / dx.abs().amax((1, 2, 3), keepdim=True).clamp_min(tiny)  # squares of small numbers are zero
    return dx / dx.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(tiny)
