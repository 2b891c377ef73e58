"""Centre crop, random crop, and random resized crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.pyramid import resize
from bothways.registry import register
from bothways.synthesis.views import window


@dataclass(frozen=True)
class CentreCrop:
    """Crop the central height x width pixels, such as a picture from a canvas with a border."""

    height: int
    width: int

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        top, left = (seen.shape[-2] - self.height) // 2, (seen.shape[-1] - self.width) // 2
        return seen[..., top : top + self.height, left : left + self.width]


@dataclass(frozen=True)
class RandomCrop:
    """Crop a random height x width window."""

    height: int
    width: int

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        spare = torch.tensor([seen.shape[-2] - self.height, seen.shape[-1] - self.width])
        corner = (draws.uniform((seen.shape[1], 2), t, "crop") * (spare + 1)).long()
        return window(seen, corner, self.height, self.width)


@register("view", "crop", help="random crop of a share of the sides, resized to the size of the picture")
@dataclass(frozen=True)
class Zoom:
    """Random crop of ``share`` of the height and width, resized (bilinear) to the size of the picture."""

    moves: ClassVar[bool] = True

    share: float = 0.875

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError("share is above 0 and at most 1")

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        height, width = seen.shape[-2:]
        cut = RandomCrop(max(1, round(self.share * height)), max(1, round(self.share * width)))
        return resize(cut(seen, draws, t).flatten(0, 1), (height, width)).unflatten(0, seen.shape[:2])
