"""Pixel parameterization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext, Measured
from bothways.synthesis.parameterizations.colours import NAMES, RGB, axes_of, coloured, scaled
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, zero_leaf
from bothways.types import Parameterization


@register("canvas", "pixels", help="pixel values, the naive baseline")
class PixelCanvas(Canvas):
    """Settings of the pixel parameterization."""

    colours: Measured = setting(RGB, f"colour axes of the parameters: {NAMES}")

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        return Pixels(start, place.squash, axes_of(self.colours, place))


@final
class Pixels:
    """Pixel parameterization: one parameter per pixel and channel.

        image = squash(start + A raw),   raw (B,3,H,W)

    A: ``axes`` divided by their largest norm; the identity for None.
    start_image: (B,3,H,W) in [0,1]. squash: "clamp" or "tanh". axes: (3,3), RGB x axis.
    """

    linear_only = False

    def __init__(self, start_image: Tensor, squash: Squash = "clamp", axes: Tensor | None = None) -> None:
        self.squash = squash
        self.start = start_canvas(start_image, squash)  # (B,3,H,W), before the squash
        self.axes = scaled(axes, self.start)
        self.raw = zero_leaf(self.start, *self.start.shape[1:])

    def parameters(self) -> list[Tensor]:
        return [self.raw]

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        return coloured(parameters[0], self.axes)

    def image(self) -> Tensor:
        return squash(self.start + self.canvas([self.raw]), self.squash)
