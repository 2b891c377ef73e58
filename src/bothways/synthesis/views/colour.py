"""Random brightness, contrast and saturation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.registry import register

GREY = (0.299, 0.587, 0.114)  # luminance of red, green and blue (ITU-R BT.601)


@register("view", "colour", help="random brightness, contrast and saturation")
@dataclass(frozen=True)
class Colour:
    """Scale brightness, contrast and saturation of each copy by factors U(1 - reach, 1 + reach), then clip to [0, 1].

    x <- b x;   x <- m + c (x - m), m the mean luminance;   x <- l + s (x - l), l the luminance of each pixel.
    """

    reach: float = 0.4

    def __call__(self, seen: Tensor, draws: Draws, t: float) -> Tensor:
        factors = 1 + self.reach * (2 * draws.uniform((seen.shape[1], 3, 1, 1, 1), t, "colour").to(seen) - 1)
        brightness, contrast, saturation = factors.unbind(2)
        seen = brightness * seen
        mean = self._luminance(seen).mean((-2, -1), keepdim=True)
        seen = mean + contrast * (seen - mean)
        light = self._luminance(seen)
        return (light + saturation * (seen - light)).clamp(0, 1)

    @property
    def idle(self) -> bool:
        return self.reach == 0

    @staticmethod
    def _luminance(seen: Tensor) -> Tensor:
        weights = torch.tensor(GREY, dtype=seen.dtype, device=seen.device).view(3, 1, 1)
        return (weights * seen).sum(-3, keepdim=True)
