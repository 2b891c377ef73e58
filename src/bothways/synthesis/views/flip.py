"""Mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register


@register("view", "flip", help="mirror each copy with a chance")
@dataclass(frozen=True)
class Flip:
    """Mirror each copy with the given chance."""

    moves: ClassVar[bool] = True

    chance: float = 0.5

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        mirrored = draws.uniform((seen.shape[1], 1, 1, 1), t, "flip").to(seen.device) < self.chance
        return torch.where(mirrored, seen.flip(-1), seen)

    @property
    def idle(self) -> bool:
        return self.chance == 0

    @classmethod
    def usual(cls, side: int) -> Flip:
        """Always."""
        return cls(1.0)
