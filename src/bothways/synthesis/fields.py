"""Vector fields over images: callables (x, t) -> dx with addition and scaling.

    dsf(model) + 2.0 * toward(objective)

A field's random draws are a function of (seed, t), so two calls at the same t are equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bothways.numerics.draws import Draws


class Field:
    """Base class of fields. ``stats``: statistics of the last call, {name: (B,)}."""

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
    """Weighted sum of fields, sum_k w_k field_k(x, t); statistics with one name are averaged."""

    parts: list[tuple[float, Field]]
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        found: list[tuple[str, Tensor]] = []
        total = None
        for weight, part in self.parts:
            own = part(x, t)
            own = own if weight == 1 else weight * own
            total = own if total is None else total + own
            found += part.stats.items()
        self.stats = averaged(found)
        return torch.zeros_like(x) if total is None else total


@dataclass
class Unit(Field):
    """A field normalised to unit L2 norm per picture, so that weights are comparable between models."""

    part: Field
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        dx = unit(self.part(x, t))
        self.stats = self.part.stats
        return dx


@dataclass
class Inside(Field):
    """A field evaluated on the picture without the canvas border, and zero on the border."""

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
    """A field clipped to +-limit (by="value"), to an L2 norm per picture (by="norm"), or +-limit by its sign ("sign").

    "sign" reads "clip 1e-5, step 2" as far beyond the clip: every number that is not zero becomes +-limit.
    """

    part: Field
    limit: float
    by: str = "value"
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        dx = self.part(x, t)
        self.stats = self.part.stats
        if self.by == "value":
            return dx.clamp(-self.limit, self.limit)
        if self.by == "sign":
            return self.limit * dx.sign()
        length = dx.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return dx * (self.limit / length.clamp_min(self.limit))


@dataclass
class WhiteNoise(Field):
    """White noise N(0, 1) instead of a gradient: the null control of the parameterization and the steps."""

    draws: Draws
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.draws.normal(x.shape[1:], float(t[0]), "null").to(x)


def averaged(found: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the values of each name, from (name, values) pairs."""
    together: dict[str, list[Tensor]] = {}
    for name, values in found:
        together.setdefault(name, []).append(values)
    return {name: sum(values[1:], values[0]) / len(values) for name, values in together.items()}


def unit(dx: Tensor) -> Tensor:
    """Normalise each picture's direction by its L2 norm; a zero direction stays zero."""
    tiny = torch.finfo(dx.dtype).tiny
    dx = dx / dx.abs().amax((1, 2, 3), keepdim=True).clamp_min(tiny)  # squares of small numbers underflow
    return dx / dx.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(tiny)
