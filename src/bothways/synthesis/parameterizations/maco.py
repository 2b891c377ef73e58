"""MaCo: optimise the phases of an image's Fourier spectrum, with fixed magnitudes of natural images.

    image = squash( mean colour + C irfft2( r exp(i phi) ) ),   phi optimised, r fixed

Source: Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization",
NeurIPS 2023 (arXiv 2306.06805).

Departures. C has orthonormal axes, so that it preserves energy; the authors' is lucid's. Their code standardises the
canvas to mean 0 and variance 1 before a sigmoid, and the phases too; here the canvas has the measured mean colour and
contrast, and phases are not normalised. Frequencies that are their own conjugate have a sign instead of a phase, and
keep that of the start. A plain step on phi would change each wave by r^2 times its gradient, which hardly changes fine
detail; the parameter here is phi sqrt(r), so that a wave changes by r times its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from bothways.configs import setting
from bothways.numerics.spectra import Spectrum, below, decorrelated, recorrelated
from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext, Measured
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, unsquash
from bothways.types import Parameterization

SLOPE = {"tanh": 2.0, "clamp": 1.0}  # d canvas / d image at mid grey
SMALL, PHOTOGRAPHS = 64, "bundled:photographs"  # pixels of a side above which these magnitudes are the default
RANKED = 2**24  # pixels of a picture at most, evenly spaced, of which torch takes a quantile
OPAQUE = 0.8  # quantile of the gradient from which a pixel is opaque, as in the authors' toolbox Horama


@register("canvas", "maco", help="Fourier phases, with fixed magnitudes of photographs", reference="maco")
class MaCoCanvas(Canvas):
    """Settings of MaCo: Fourier phases with fixed magnitudes of natural images."""

    start_for_grey: ClassVar[str] = "noise"  # a grey image has no phases
    spectrum: Measured = setting(
        None, "magnitudes: a file of bothways spectrum; default is bundled:natural, above 64 pixels bundled:photographs"
    )

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        default = PHOTOGRAPHS if place.side > SMALL else None
        return MaCo(start, place.spectrum(self.spectrum or default), place.squash, place.side)


@final
class MaCo:
    """MaCo parameterization: one phase per frequency and colour axis, with fixed magnitudes.

        canvas = mean colour + C irfft2( r exp(i (phi_0 + phi)) ),   phi = p sqrt(max r / r),   p = 0 at the start

    r: twice (tanh) or once (clamp) ``spectrum.at(H, W, side)``, exactly the magnitude of the canvas' spectrum except at
    frequency zero. p, phi: (B,3,H,W//2+1), phi in radians; p is the parameter. phi_0: the phases of the starting
    picture; those of white noise are independent and uniform. C: ``numerics.spectra.recorrelated``. irfft2 is
    orthonormal.

    start_image: (B,3,H,W) in [0,1]. side: pixels of the side of the picture in the canvas; None for the shorter one.
    Raises UserError for a start outside [0,1].
    """

    linear_only = False

    def __init__(
        self, start_image: Tensor, spectrum: Spectrum, squash: Squash = "tanh", side: int | None = None
    ) -> None:
        self.squash = squash
        canvas = start_canvas(start_image, squash)
        high, wide = canvas.shape[-2:]
        kind: dict[str, Any] = {"dtype": canvas.dtype, "device": canvas.device}
        self.magnitude = SLOPE[squash] * spectrum.at(high, wide, side).to(**kind)  # (3,H,W//2+1)
        self.start = unsquash(spectrum.mean.to(**kind), squash).view(1, 3, 1, 1).expand_as(canvas)
        self.first = torch.fft.rfft2(decorrelated(canvas)).angle()
        self.gain = torch.where(self.magnitude > 0, self.magnitude.max() / self.magnitude, 0.0).sqrt()
        self.own, self.mirrored = (mask.to(**kind) for mask in halves(high, wide))
        self.phase = torch.zeros_like(self.first).requires_grad_()

    def parameters(self) -> list[Tensor]:
        return [self.phase]

    def canvas(self, change: Sequence[Tensor]) -> Tensor:
        """Differential of the canvas at the present phases, C irfft2( i r exp(i phi) change )."""
        turned = torch.view_as_complex(torch.stack([torch.zeros_like(self.phase), self._turn(change[0])], -1))
        return self._drawn(turned * self._spectrum())

    def free(self, cut: float) -> list[Tensor]:
        """The phases of waves of at most ``cut`` cycles per pixel: 1 there, 0 elsewhere."""
        return [below(cut, *self.start.shape[-2:]).to(self.magnitude)]

    def unsquashed(self) -> Tensor:
        """The canvas before the squash, (B,3,H,W)."""
        return self.start + self._drawn(self._spectrum())

    def image(self) -> Tensor:
        return squash(self.unsquashed(), self.squash)

    def _spectrum(self) -> Tensor:
        return torch.polar(self.magnitude.expand_as(self.first), self.first + self._turn(self.phase))

    def _drawn(self, spectrum: Tensor) -> Tensor:
        return recorrelated(torch.fft.irfft2(spectrum, s=tuple(self.start.shape[-2:]), norm="ortho"))

    def _turn(self, phase: Tensor) -> Tensor:
        """Phases with conjugate symmetry: opposite signs at k and -k, zero at self-conjugate frequencies."""
        turn = self.gain * phase
        return self.own * turn - self.mirrored * turn.flip(-2).roll(1, -2)  # row -k in place of row k


def halves(high: int, wide: int) -> tuple[Tensor, Tensor]:
    """Masks of the ``rfft2`` half plane (H,W//2+1): free phases, and phases fixed by conjugate symmetry.

    The spectrum of a real picture has F(-k) = conj F(k). In the columns 0 and W/2 both of such a pair are in the half
    plane; rows 0 and H/2 of these columns are self-conjugate, hence real, and in neither mask.
    """
    row = torch.arange(high)[:, None]
    column = torch.arange(wide // 2 + 1)[None, :]
    both = (column == 0) | (2 * column == wide)
    return ~both | ((row > 0) & (2 * row < high)), both & (2 * row > high)


def transparency(gradient: Tensor, opaque: float = OPAQUE) -> Tensor:
    """MaCo's transparency mask min(1, g / quantile(g)), g the sum over steps and colours of |gradient|.

    gradient: (B,1,H,W). opaque: the quantile from which a pixel is opaque. Returns (B,1,H,W) in [0,1], all 1 for a zero
    gradient.
    """
    pixels = gradient.flatten(1)
    some = pixels[:, :: -(-pixels.shape[1] // RANKED)]
    enough = some.quantile(opaque, 1).view(-1, 1, 1, 1)
    return torch.where(enough > 0, gradient / enough.clamp_min(1e-30), 1.0).clamp_max(1.0)
