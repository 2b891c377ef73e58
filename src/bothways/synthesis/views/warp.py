"""Random zoom, rotation and translation of every copy by one bilinear resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register


@lru_cache(maxsize=8)
def _places(high: int, wide: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """u of every pixel and a 1, (high wide, 3), of which F.affine_grid makes as many copies as there are views."""
    with torch.inference_mode(False), torch.no_grad():
        unit = torch.eye(3, dtype=dtype, device=device)
        across = F.affine_grid(unit[None, :2], [1, 1, high, wide], align_corners=False)
        return F.pad(across, (0, 1), value=1.0).flatten(0, 2)


@register("view", "warp", help="random zoom, rotation and translation")
@dataclass(frozen=True)
class Warp:
    """Zoom by U[smallest, largest], rotate by U[-degrees, degrees], translate by U[-reach, reach] of each side.

        seen(u) = image( R(angle) u / zoom + shift ),   u in [-1, 1]^2

    A zoom below 1 shows more than the picture. padding: what a copy shows there, the mean colour of the picture or its
    reflection. A reflection completes an object that is cut by the edge, so objects drift to the edges; a plain colour
    does not, and they stay whole inside.
    """

    moves: ClassVar[bool] = True

    smallest: float = 0.7
    largest: float = 1.1
    degrees: float = 12.0
    reach: float = 0.25
    padding: Literal["mean", "reflect"] = "mean"

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest:
            raise ValueError("smallest and largest are positive, and smallest is not above largest")
        if self.padding not in ("mean", "reflect"):
            raise ValueError('padding is "mean" or "reflect"')
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
        grid = (_places(high, wide, seen.dtype, seen.device) @ matrix.mT).unflatten(1, (high, wide))
        flat = seen.flatten(0, 1)
        if self.padding == "reflect":
            warped = F.grid_sample(flat, grid, "bilinear", "reflection", align_corners=False)
        else:
            mean = flat.mean((2, 3), keepdim=True)
            warped = F.grid_sample(flat - mean, grid, "bilinear", "zeros", align_corners=False).add_(mean)
        return warped.unflatten(0, (pictures, copies))

    @property
    def idle(self) -> bool:
        return self.smallest == self.largest == 1 and self.degrees == self.reach == 0
