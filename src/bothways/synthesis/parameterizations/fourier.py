"""Fourier parameterization: scaled spectrum coefficients in decorrelated colours.

Source: Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017, and its code lucid. Departure: ends in
1/2 + 1/2 tanh(x) where lucid has the sigmoid, 1/2 + 1/2 tanh(x/2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, zero_leaf
from bothways.types import Parameterization

LUCID_GAIN = 1 / 4  # lucid divides its canvas by 4
LUCID_COLOUR = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))  # root of ImageNet's colour covariance


@register("canvas", "fourier", help="Fourier coefficients in decorrelated colours", reference="fourier")
class FourierCanvas(Canvas):
    """Settings of the Fourier parameterization (none)."""

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        return Fourier(start, squash=place.squash)


@final
class Fourier:
    """Fourier parameterization: real-FFT coefficients, scaled towards low frequencies, in decorrelated colours.

        canvas = 1/4 M irfft2( c / max(f, 1/max(H, W))^decay ),   f in cycles per pixel, irfft2 orthonormal

    M: lucid's root of the colour covariance of ImageNet, divided by its largest column norm; the identity without
    ``decorrelate``. c: (B,3,H,W//2+1,2), real and imaginary parts.

    start_image: (B,3,H,W) in [0,1]. decay: 1 for the spectrum of natural images, 0 for a white one.
    Source: Olah et al., Distill 2017, "Preconditioning and parameterization", and lucid's spatial.py and color.py.
    """

    linear_only = False

    def __init__(
        self, start_image: Tensor, decay: float = 1.0, squash: Squash = "tanh", decorrelate: bool = True
    ) -> None:
        self.squash = squash
        self.start = start_canvas(start_image, squash)  # (B,3,H,W), before the squash
        H, W = self.start.shape[-2:]
        kind: dict[str, Any] = {"dtype": self.start.dtype, "device": self.start.device}
        f = torch.hypot(torch.fft.fftfreq(H, **kind)[:, None], torch.fft.rfftfreq(W, **kind))
        self.scale = f.clamp_min(1 / max(H, W)) ** -decay  # (H, W//2+1)
        root = torch.tensor(LUCID_COLOUR, **kind)
        self.colour = root / root.norm(dim=0).max() if decorrelate else torch.eye(3, **kind)
        self.coefficients = zero_leaf(self.start, 3, H, W // 2 + 1, 2)

    def parameters(self) -> list[Tensor]:
        return [self.coefficients]

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        spectrum = torch.view_as_complex(parameters[0].contiguous()) * self.scale
        planes = torch.fft.irfft2(spectrum, s=tuple(self.start.shape[-2:]), norm="ortho")
        return LUCID_GAIN * torch.einsum("ck,bkhw->bchw", self.colour, planes)

    def image(self) -> Tensor:
        return squash(self.start + self.canvas(self.parameters()), self.squash)
