"""Pixel parameterization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, zero_leaf
from bothways.types import Parameterization


@register("canvas", "pixels", help="pixel values, the naive baseline")
class PixelCanvas(Canvas):
    """Settings of the pixel parameterization (none)."""

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        return Pixels(start, place.squash)


@final
class Pixels:
    """Pixel parameterization: one parameter per pixel and channel.

        image = squash(start + raw),   raw (B,3,H,W)

    start_image: (B,3,H,W) in [0,1]. squash: "clamp" or "tanh".
    """

    linear_only = False

    def __init__(self, start_image: Tensor, squash: Squash = "clamp") -> None:
        self.squash = squash
        self.start = start_canvas(start_image, squash)  # (B,3,H,W), before the squash
        self.raw = zero_leaf(self.start, *self.start.shape[1:])

    def parameters(self) -> list[Tensor]:
        return [self.raw]

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        return parameters[0]

    def image(self) -> Tensor:
        return squash(self.start + self.raw, self.squash)
