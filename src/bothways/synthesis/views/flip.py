"""Random horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register


@register("view", "flip", help="horizontal flip with a probability")
@dataclass(frozen=True)
class Flip:
    """Flip each copy horizontally with probability ``chance``."""

    moves: ClassVar[bool] = True

    chance: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise ValueError("chance is from 0 to 1")

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        mirrored = draws.uniform((seen.shape[1], 1, 1, 1), t, "flip") < self.chance
        if seen.device.type != "cpu":
            return torch.where(mirrored.to(seen.device), seen.flip(-1), seen)
        each = zip(seen.flatten(0, 1), mirrored.flatten().tolist(), strict=True)  # a third of the time of where
        return torch.stack([copy.flip(-1) if turned else copy for copy, turned in each]).view(seen.shape)

    @property
    def idle(self) -> bool:
        return self.chance == 0

    @classmethod
    def usual(cls, side: int) -> Flip:
        """The default of the score function: always flip."""
        return cls(1.0)
