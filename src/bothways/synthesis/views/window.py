"""Random window of a canvas that is larger than what the model takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.pyramid import resize
from bothways.registry import register


@register("view", "window", help="random window of a larger canvas, as large as the model's input")
@dataclass(frozen=True)
class Window:
    """Show of each copy a window of U[smallest, largest] times the height and width of the model's input, at its size.

    A window of factor 1 is cut out pixel by pixel, others are resized (bilinear, antialiased). None is larger than the
    picture. height, width: of what is seen, in pixels; 0 for the model's input.
    """

    moves: ClassVar[bool] = True

    smallest: float = 1.0
    largest: float = 1.0
    height: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest:
            raise ValueError("smallest and largest are positive, and smallest is not above largest")
        if min(self.height, self.width) < 0:
            raise ValueError("height and width are pixels, 0 for those of the model")

    def of_model(self, height: int, width: int) -> Window:
        """This view for a model whose input has so many pixels."""
        return replace(self, height=int(self.height) or height, width=int(self.width) or width)

    def covers(self, height: int, width: int) -> bool:
        """Whether every window is the whole of a picture of this size."""
        return self.smallest * self.height >= height and self.smallest * self.width >= width

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        high, wide = seen.shape[-2:]
        shown = int(self.height) or high, int(self.width) or wide
        drawn = draws.uniform((seen.shape[1], 3), t, "window")
        factor = self.smallest + (self.largest - self.smallest) * drawn[..., :1]
        sides = (factor.clamp_max(min(high / shown[0], wide / shown[1])) * torch.tensor(shown)).round().clamp_min(1)
        corners = (drawn[..., 1:] * (torch.tensor([high, wide]) - sides + 1)).floor()
        places = torch.cat([corners, sides], -1).long().flatten(0, 1).tolist()
        cut = [
            resize(copy[None, :, top : top + h, left : left + w], shown)
            for copy, (top, left, h, w) in zip(seen.flatten(0, 1), places, strict=True)
        ]
        return torch.cat(cut).unflatten(0, seen.shape[:2])
