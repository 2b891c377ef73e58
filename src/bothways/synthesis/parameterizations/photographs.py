"""Fourier coefficients in units of the magnitudes of photographs, softly bounded.

    image = squash( mean colour + C irfft2( r soft(z) ) ),   soft(z) = z/|z| b tanh(|z|/b),   z complex, optimised

r: the mean magnitudes of photographs, one per frequency and colour axis. So a step is preconditioned by the spectrum
and colours of photographs, and no wave exceeds b times its mean magnitude in them. With b towards 0 and free phases
this is MaCo (arXiv 2306.06805), whose magnitudes are fixed; with b infinite, a Fourier canvas (Olah et al., Distill
2017) whose decay was measured.

Photographs are sharp where their subject is, mostly near the middle. With a focus, fine waves fade outwards:

    planes = low + (.3 + .7 exp(-d^2 / 2 focus^2)) (all - low),   low: the waves times exp(-(f/8)^2 / 2)

d: distance from the middle, in sides; f: cycles per side. With a tilt p, r is multiplied by (8/f)^p, f at least 1:
networks respond most to fine waves, so drawings are flatter in spectrum than photographs, and p makes up for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from bothways.configs import setting
from bothways.numerics.draws import Draws
from bothways.numerics.spectra import Spectrum, below, decorrelated, frequencies, recorrelated
from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext, Measured
from bothways.synthesis.parameterizations.maco import SLOPE
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, unsquash
from bothways.types import Parameterization

COARSE = 8.0  # cycles per side: waves well below it are as strong at the border as in the middle
DIM = 0.3  # strength of fine waves far from the middle
REACH = 0.95  # share of the bound at which a coefficient of a starting picture is cut, so that it can still move


@register("canvas", "photographs", help="Fourier coefficients bounded by the magnitudes of photographs")
class PhotographsCanvas(Canvas):
    """Settings of Fourier coefficients in units of photographs' magnitudes."""

    spectrum: Measured = setting(
        "bundled:photographs", "magnitudes: a file of bothways spectrum, bundled:natural or bundled:photographs"
    )
    bound: float = setting(1.2, "largest coefficient, in units of its mean magnitude in photographs", gt=0)
    spread: float = setting(0.2, "standard deviation of the starting coefficients, in the same units", ge=0)
    tilt: float = setting(0.0, "spectral tilt p: magnitudes times (8 / cycles per side)^p")
    focus: float = setting(0.0, "distance from the middle, in sides, at which fine waves fade; 0: nowhere", ge=0)

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        found = place.spectrum(self.spectrum)
        shape = {"bound": self.bound, "spread": self.spread, "focus": self.focus, "tilt": self.tilt}
        return Photographs(start, found, place.draws, squash=place.squash, side=place.side, **shape)


@final
class Photographs:
    """Fourier coefficients in units of photographs' magnitudes.

        canvas = mean colour + C irfft2( r soft(z) ),   z (B,3,H,W//2+1,2)

    r: twice (tanh) or once (clamp) ``spectrum.at(H, W, side)``; at frequency zero the mean of the lowest ring, so that
    the mean colour can move too. z starts at those of the starting picture, cut at .95 of the bound, plus normal draws
    of standard deviation ``spread`` a part. A grey start is one of the photographs' mean colour.

    start_image: (B,3,H,W) in [0,1]; with a focus, its fine waves fade outwards too. draws: of the B pictures. side:
    pixels of the picture in the canvas, None for the shorter one. focus: in sides, 0 for none. tilt: p, 0 for none.
    Raises UserError for a start outside [0,1].
    """

    linear_only = False

    def __init__(
        self,
        start_image: Tensor,
        spectrum: Spectrum,
        draws: Draws,
        bound: float = 1.2,
        spread: float = 0.2,
        squash: Squash = "tanh",
        side: int | None = None,
        focus: float = 0.0,
        tilt: float = 0.0,
    ) -> None:
        self.squash, self.bound = squash, bound
        canvas = start_canvas(start_image, squash)
        high, wide = canvas.shape[-2:]
        kind: dict[str, Any] = {"dtype": canvas.dtype, "device": canvas.device}
        # a side of one pixel has no waves along it: the lowest ring is that of a side of two
        whole = SLOPE[squash] * spectrum.at(max(high, 2), max(wide, 2), side or min(high, wide)).to(**kind)
        magnitude = whole[:, :high, : wide // 2 + 1]  # (3,H,W//2+1)
        magnitude[:, 0, 0] = (whole[:, 0, 1] + whole[:, 1, 0]) / 2
        side = side or min(high, wide)
        if tilt:
            cycles = torch.hypot(*frequencies(high, wide, side)).clamp_min(1)
            magnitude = magnitude * (COARSE / cycles).pow(tilt).to(**kind)
        self.magnitude = magnitude
        self.coarse: Tensor | None = None
        if focus:
            self.coarse, self.strength = (part.to(**kind) for part in _focus(high, wide, side, focus))
            # a product with a number below the normal ones takes a processor a hundred times as long
            self.coarse[self.coarse < torch.finfo(canvas.dtype).smallest_normal] = 0.0
        self.mean = unsquash(spectrum.mean.to(**kind), squash).view(1, 3, 1, 1).expand_as(canvas)
        grey = (canvas - unsquash(canvas.new_tensor(0.5), squash)).abs().amax((1, 2, 3), keepdim=True) < 1e-6
        apart = torch.where(grey, 0.0, canvas - self.mean)
        drawn = draws.normal((3, high, wide // 2 + 1, 2), purpose="coefficients").to(**kind)
        self.coefficients = (self._inverse(apart) + spread * drawn).requires_grad_()

    def parameters(self) -> list[Tensor]:
        return [self.coefficients]

    @torch.no_grad()
    def canvas(self, change: Sequence[Tensor]) -> Tensor:
        """Differential of the canvas at the present coefficients in the direction ``change``."""
        length, scale = self._scaled(self.coefficients)
        unit = self.coefficients / length
        along = unit * (unit * change[0]).sum(-1, keepdim=True)
        slope = 1 - torch.tanh(length / self.bound).square()  # of b tanh(|z|/b)
        return self._planes(scale * (change[0] - along) + slope * along)

    def free(self, cut: float) -> list[Tensor]:
        """The coefficients of waves of at most ``cut`` cycles per pixel: 1 there, 0 elsewhere."""
        return [below(cut, *self.mean.shape[-2:]).to(self.magnitude)[..., None]]

    def image(self) -> Tensor:
        return squash(self.mean + self._drawn(self.coefficients), self.squash)

    def _drawn(self, coefficients: Tensor) -> Tensor:
        return self._planes(coefficients * self._scaled(coefficients)[1])

    def _scaled(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """|z| and b tanh(|z|/b) / |z|, each (B,3,H,W//2+1,1)."""
        length = coefficients.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
        return length, self.bound * torch.tanh(length / self.bound) / length

    def _planes(self, bounded: Tensor) -> Tensor:
        spectrum = torch.view_as_complex((bounded * self.magnitude[..., None]).contiguous())
        planes = self._inverse_transform(spectrum)
        if self.coarse is not None:
            low = self._inverse_transform(spectrum * self.coarse)
            planes = low + self.strength * (planes - low)
        return recorrelated(planes)

    def _inverse_transform(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum, s=tuple(self.mean.shape[-2:]), norm="ortho")

    def _inverse(self, canvas: Tensor) -> Tensor:
        """The coefficients of a canvas without its mean, cut at a share of the bound."""
        found = torch.fft.rfft2(decorrelated(canvas), norm="ortho") / self.magnitude.clamp_min(1e-12)
        length = found.abs().clamp_min(1e-12)
        free = self.bound * torch.atanh((length / self.bound).clamp_max(REACH))
        return torch.view_as_real(found * (free / length))


def _focus(high: int, wide: int, side: int, focus: float) -> tuple[Tensor, Tensor]:
    """(share of each wave that is coarse (H,W//2+1), strength of fine waves at each place (H,W)), float64."""
    radius = torch.hypot(*frequencies(high, wide, side))
    y, x = (((torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) / side).square() for n in (high, wide))
    near = torch.exp(-(y[:, None] + x) / (2 * focus**2))
    return torch.exp(-(radius / COARSE).square() / 2), DIM + (1 - DIM) * near
