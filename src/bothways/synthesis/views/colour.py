"""Random brightness, contrast, saturation and hue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.fast import clipped
from bothways.registry import register

GREY = (0.299, 0.587, 0.114)  # luminance of red, green and blue (ITU-R BT.601)


@register("view", "colour", help="random brightness, contrast, saturation and hue")
@dataclass(frozen=True)
class Colour:
    """Scale brightness, contrast and saturation of each copy by factors U(1 - reach, 1 + reach), then clip to [0, 1].

    x <- b x;   x <- m + c (x - m), m the mean luminance;   x <- l + s (x - l), l the luminance of each pixel.

    Before the clip colours are rotated about the axis of greys by U(-hue, hue) degrees.
    """

    reach: float = 0.4
    hue: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.reach <= 1:
            raise ValueError("reach is from 0 to 1")

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        factors = 1 + self.reach * (2 * draws.uniform((seen.shape[1], 3, 1, 1, 1), t, "colour").to(seen) - 1)
        brightness, contrast, saturation = factors.unbind(2)
        seen = brightness * seen
        mean = self._luminance(seen).mean((-2, -1), keepdim=True)
        seen = mean + contrast * (seen - mean)
        light = self._luminance(seen)
        seen = light + saturation * (seen - light)
        if self.hue:
            angle = math.radians(self.hue) * (2 * draws.uniform((seen.shape[1],), t, "hue").to(seen) - 1)
            seen = torch.einsum("bnck,bnkhw->bnchw", about_grey(angle), seen)
        return clipped(seen)

    @property
    def idle(self) -> bool:
        return self.reach == self.hue == 0

    @staticmethod
    def _luminance(seen: Tensor) -> Tensor:
        weights = torch.tensor(GREY, dtype=seen.dtype, device=seen.device).view(3, 1, 1)
        return (weights * seen).sum(-3, keepdim=True)


def about_grey(angle: Tensor) -> Tensor:
    """Rotations of RGB about the axis (1,1,1) by angles in radians, (...) -> (...,3,3) (Rodrigues)."""
    mean = torch.full((3, 3), 1 / 3, dtype=angle.dtype, device=angle.device)
    eye = torch.eye(3, dtype=angle.dtype, device=angle.device)
    turned = (eye.roll(1, 0) - eye.roll(-1, 0)) / math.sqrt(3)  # the cross product with the axis
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    return mean + cos * (eye - mean) + sin * turned
