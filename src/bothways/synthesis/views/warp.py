"""Random zoom, rotation and translation of every copy by one bilinear resampling, edges reflected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register


@register("view", "warp", help="random zoom, rotation and translation, edges reflected")
@dataclass(frozen=True)
class Warp:
    """Zoom by U[smallest, largest], rotate by U[-degrees, degrees], translate by U[-reach, reach] of each side.

        seen(u) = image( R(angle) u / zoom + shift ),   u in [-1, 1]^2

    A zoom below 1 shows more than the picture, by reflection at its edges.
    """

    moves: ClassVar[bool] = True

    smallest: float = 0.7
    largest: float = 1.1
    degrees: float = 12.0
    reach: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest:
            raise ValueError("smallest and largest are positive, and smallest is not above largest")
        if self.degrees < 0 or not 0 <= self.reach <= 1:
            raise ValueError("degrees is 0 or more, and reach from 0 to 1")

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        pictures, copies, _, high, wide = seen.shape
        drawn = draws.uniform((copies, 4), t, "warp").to(seen.device)
        zoom = self.smallest + (self.largest - self.smallest) * drawn[..., 0]
        angle = math.radians(self.degrees) * (2 * drawn[..., 1] - 1)
        shift = 2 * self.reach * (2 * drawn[..., 2:] - 1)  # a side is 2 long
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = [
            torch.stack([cos, -sin * high / wide, shift[..., 0]], -1),
            torch.stack([sin * wide / high, cos, shift[..., 1]], -1),
        ]
        matrix = torch.stack(rows, -2).flatten(0, 1).to(seen.dtype)
        grid = F.affine_grid(matrix, [pictures * copies, 3, high, wide], align_corners=False)
        warped = F.grid_sample(seen.flatten(0, 1), grid, "bilinear", "reflection", align_corners=False)
        return warped.unflatten(0, (pictures, copies))

    @property
    def idle(self) -> bool:
        return self.smallest == self.largest == 1 and self.degrees == self.reach == 0
