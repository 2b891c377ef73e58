"""Fourier parameterization: scaled spectrum coefficients in decorrelated colours.

Source: Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017, and its code lucid. Departure: ends in
1/2 + 1/2 tanh(x) where lucid has the sigmoid, 1/2 + 1/2 tanh(x/2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from bothways.configs import setting
from bothways.numerics.spectra import below
from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext, Measured
from bothways.synthesis.parameterizations.colours import LUCID, LUCID_COLOUR, NAMES, axes_of, coloured, scaled
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, zero_leaf
from bothways.types import Parameterization

LUCID_GAIN = 1 / 4  # lucid divides its canvas by 4
IMAGENET = torch.tensor(LUCID_COLOUR, dtype=torch.float64)


@register("canvas", "fourier", help="Fourier coefficients in decorrelated colours", reference="fourier")
class FourierCanvas(Canvas):
    """Settings of the Fourier parameterization."""

    colours: Measured = setting(LUCID, f"colour axes of the parameters: {NAMES}")

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        return Fourier(start, squash=place.squash, axes=axes_of(self.colours, place))


@final
class Fourier:
    """Fourier parameterization: real-FFT coefficients, scaled towards low frequencies, in decorrelated colours.

        canvas = 1/4 A irfft2( c / max(f, 1/max(H, W))^decay ),   f in cycles per pixel, irfft2 orthonormal

    A: ``axes`` divided by their largest norm; the identity for None. c: (B,3,H,W//2+1,2), real and imaginary parts.

    start_image: (B,3,H,W) in [0,1]. decay: 1 for the spectrum of natural images, 0 for a white one. axes: (3,3), RGB x
    axis; lucid's root of the colour covariance of ImageNet if not given.
    Source: Olah et al., Distill 2017, "Preconditioning and parameterization", and lucid's spatial.py and color.py.
    """

    linear_only = False

    def __init__(
        self, start_image: Tensor, decay: float = 1.0, squash: Squash = "tanh", axes: Tensor | None = IMAGENET
    ) -> None:
        self.squash = squash
        self.start = start_canvas(start_image, squash)  # (B,3,H,W), before the squash
        H, W = self.start.shape[-2:]
        kind: dict[str, Any] = {"dtype": self.start.dtype, "device": self.start.device}
        f = torch.hypot(torch.fft.fftfreq(H, **kind)[:, None], torch.fft.rfftfreq(W, **kind))
        self.scale = f.clamp_min(1 / max(H, W)) ** -decay  # (H, W//2+1)
        self.axes = scaled(axes, self.start)
        self.coefficients = zero_leaf(self.start, 3, H, W // 2 + 1, 2)

    def parameters(self) -> list[Tensor]:
        return [self.coefficients]

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        spectrum = torch.view_as_complex(parameters[0].contiguous()) * self.scale
        planes = torch.fft.irfft2(spectrum, s=tuple(self.start.shape[-2:]), norm="ortho")
        return LUCID_GAIN * coloured(planes, self.axes)

    def free(self, cut: float) -> list[Tensor]:
        """The coefficients of waves of at most ``cut`` cycles per pixel: 1 there, 0 elsewhere."""
        H, W = self.start.shape[-2:]
        return [below(cut, H, W).to(self.start)[..., None]]

    def image(self) -> Tensor:
        return squash(self.start + self.canvas(self.parameters()), self.squash)
