"""How a picture is seen: copies of it, rolled, cropped, mirrored, shifted and noised, each by its own draws.

A model that is shown one fixed picture can be fooled pixel by pixel; what survives many views is what it knows
(DAS, arXiv 2502.07753, sec. 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws


class Augmentation(Protocol):
    """(B,copies,3,H,W), the pictures' draws, the moment -> (B,copies,3,h,w)."""

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor: ...


@dataclass(frozen=True)
class Roll:
    """Roll around the edges by U{-reach..reach} pixels down and across."""

    reach: int

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        return _moved(seen, draws.integers(-self.reach, self.reach, (seen.shape[1], 2), t, "roll"), wrap=True)


@dataclass(frozen=True)
class Shift:
    """Shift by U{-reach..reach} pixels; the edge pixel is repeated."""

    reach: int

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        return _moved(seen, draws.integers(-self.reach, self.reach, (seen.shape[1], 2), t, "shift"), wrap=False)


@dataclass(frozen=True)
class Flip:
    """Mirror each copy with the given chance."""

    chance: float = 0.5

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        mirrored = draws.uniform((seen.shape[1], 1, 1, 1), t, "flip").to(seen.device) < self.chance
        return torch.where(mirrored, seen.flip(-1), seen)


@dataclass(frozen=True)
class Noise:
    """Add noise and clip to [0, 1]: ``level`` times N(0, 1), or times U[0, 1) as DAS's released code does."""

    level: float
    kind: str = "normal"

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        draw = draws.normal if self.kind == "normal" else draws.uniform
        noise = draw(seen.shape[1:], t, "view noise").to(seen)
        return (seen + self.level * noise).clamp(0, 1)


@dataclass(frozen=True)
class CentreCrop:
    """The central height x width pixels: what is left of a canvas with a border."""

    height: int
    width: int

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        top, left = (seen.shape[-2] - self.height) // 2, (seen.shape[-1] - self.width) // 2
        return seen[..., top : top + self.height, left : left + self.width]


@dataclass(frozen=True)
class RandomCrop:
    """A height x width window anywhere in the picture."""

    height: int
    width: int

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        spare = torch.tensor([seen.shape[-2] - self.height, seen.shape[-1] - self.width])
        corner = (draws.uniform((seen.shape[1], 2), t, "crop") * (spare + 1)).long()
        return _window(seen, corner, self.height, self.width)


@dataclass(frozen=True)
class Views:
    """``copies`` of every picture, put through the augmentations in order.

    (B,3,H,W) -> (B*copies,3,h,w), the copies of one picture side by side; differentiable in the picture.
    """

    copies: int = 1
    augmentations: Sequence[Augmentation] = ()

    def __call__(self, image: Tensor, draws: Draws, t: float) -> Tensor:
        seen = image[:, None].expand(-1, self.copies, -1, -1, -1)
        for augmentation in self.augmentations:
            seen = augmentation(seen, draws, t)
        return seen.flatten(0, 1)


def _moved(seen: Tensor, offset: Tensor, *, wrap: bool) -> Tensor:
    """Move copy (b, c) by offset[b, c] = (down, right)."""
    height, width = seen.shape[-2:]
    rows = torch.arange(height) - offset[..., :1]
    columns = torch.arange(width) - offset[..., 1:]
    if wrap:
        return _gather(seen, rows % height, columns % width)
    return _gather(seen, rows.clamp(0, height - 1), columns.clamp(0, width - 1))


def _window(seen: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    return _gather(seen, corner[..., :1] + torch.arange(height), corner[..., 1:] + torch.arange(width))


def _gather(seen: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """seen (B,n,3,H,W), rows (B,n,h), columns (B,n,w) -> (B,n,3,h,w). A slice a copy, since its gradient is cheap."""
    rows, columns = rows.to(seen.device), columns.to(seen.device)
    taken = torch.take_along_dim(seen, rows[:, :, None, :, None], dim=-2)
    return torch.take_along_dim(taken, columns[:, :, None, None, :], dim=-1)


def noise_of_resolution(draws: Draws, height: int, width: int, low: int, purpose: str = "start") -> Tensor:
    """(B,3,H,W) of N(0, 1) drawn on a low x low grid and enlarged (bicubic): soft blobs to start from."""
    return F.interpolate(draws.normal((3, low, low), purpose=purpose), size=(height, width), mode="bicubic")
