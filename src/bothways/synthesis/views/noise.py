"""Additive noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.fast import clipped
from bothways.registry import register


@register("view", "noise", help="additive noise, normal or uniform", reference="das")
@dataclass(frozen=True)
class Noise:
    """Add noise and clip to [0, 1]: ``level`` times N(0, 1), or times U[0, 1) as in the released code of DAS."""

    level: float
    distribution: str = "normal"

    def __post_init__(self) -> None:
        if self.level < 0 or self.distribution not in ("normal", "uniform"):
            raise ValueError('level is 0 or more, and distribution "normal" or "uniform"')

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        draw = draws.normal if self.distribution == "normal" else draws.uniform
        noise = draw(seen.shape[1:], t, "view noise").to(seen)
        return clipped(noise.mul_(self.level).add_(seen))

    @property
    def idle(self) -> bool:
        return self.level == 0

    @classmethod
    def usual(cls, side: int) -> Noise:
        """The default of the score function: standard deviation 0.1."""
        return cls(0.1)
