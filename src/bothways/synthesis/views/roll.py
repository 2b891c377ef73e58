"""Random circular shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register
from bothways.synthesis.views import check_reach, moved


@register("view", "roll", help="random circular shift by up to a reach", reference="das")
@dataclass(frozen=True)
class Roll:
    """Circular shift by U{-reach..reach} pixels in each direction."""

    lengths: ClassVar[tuple[str, ...]] = ("reach",)
    on_canvas: ClassVar[bool] = True
    moves: ClassVar[bool] = True

    reach: int

    def __post_init__(self) -> None:
        check_reach(self.reach)

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        return moved(seen, draws.integers(-self.reach, self.reach, (seen.shape[1], 2), t, "roll"), wrap=True)

    @property
    def idle(self) -> bool:
        return self.reach == 0

    @classmethod
    def usual(cls, side: int) -> Roll:
        """The default of the score function: up to an eighth of the side."""
        return cls(max(1, side // 8))
