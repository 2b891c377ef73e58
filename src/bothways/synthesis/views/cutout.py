"""Random rectangles without their content (DeVries & Taylor 2017, arXiv 1708.04552)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register

ELONGATED = 2.0  # largest ratio of the sides of a rectangle, as shares of those of the picture
FILLS = ("mean", "grey")


@register("view", "cutout", help="random rectangles filled with the mean colour or grey")
@dataclass(frozen=True)
class Cutout:
    """Fill ``count`` rectangles of each copy, each of ``share`` of its area, with the copy's mean colour or with grey.

        sides (sqrt(share a) H, sqrt(share / a) W),   log a uniform within [1/2, 2]

    A rectangle lies within the picture. Its sides are rounded at random, so that the expected area is exact.
    """

    share: float = 0.1
    count: int = 1
    fill: str = "mean"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.count < 0 or self.count != int(self.count):
            raise ValueError("share is from 0 to 1, and count a whole number")
        if self.fill not in FILLS:
            raise ValueError(f"fill is {' or '.join(FILLS)}")

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        drawn = draws.uniform((seen.shape[1], int(self.count), 5), t, "cutout").to(seen.device)
        reach = min(math.log(ELONGATED), -math.log(max(self.share, 1e-12)))
        aspect = torch.exp(reach * (2 * drawn[..., 0] - 1))
        rows = _stripe(seen.shape[-2], (self.share * aspect).sqrt(), drawn[..., 1], drawn[..., 2])
        columns = _stripe(seen.shape[-1], (self.share / aspect).sqrt(), drawn[..., 3], drawn[..., 4])
        gone = (rows[..., :, None] & columns[..., None, :]).any(2)[:, :, None]  # (B,copies,1,H,W)
        content = seen.mean((-2, -1), keepdim=True) if self.fill == "mean" else torch.full_like(seen[..., :1, :1], 0.5)
        return torch.where(gone, content, seen)

    @property
    def idle(self) -> bool:
        return self.share == 0 or self.count == 0


def _stripe(size: int, share: Tensor, rounding: Tensor, place: Tensor) -> Tensor:
    """Whether each of ``size`` places is within a stripe of a share of them, at a random place; (..., size)."""
    length = (share * size + rounding).floor().clamp_max(size)
    first = (place * (size - length + 1)).floor()
    at = torch.arange(size, device=share.device)
    return (at >= first[..., None]) & (at < (first + length)[..., None])
