"""Random translation with replicated edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register
from bothways.synthesis.views import check_reach, moved


@register("view", "shift", help="random translation by up to a reach, edges replicated")
@dataclass(frozen=True)
class Shift:
    """Translate by U{-reach..reach} pixels in each direction, edges replicated."""

    lengths: ClassVar[tuple[str, ...]] = ("reach",)
    moves: ClassVar[bool] = True

    reach: int

    def __post_init__(self) -> None:
        check_reach(self.reach)

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        return moved(seen, draws.integers(-self.reach, self.reach, (seen.shape[1], 2), t, "shift"), wrap=False)

    @property
    def idle(self) -> bool:
        return self.reach == 0

    @classmethod
    def usual(cls, side: int) -> Shift:
        """The default of the score function: up to an eighth of the side."""
        return cls(max(1, side // 8))
