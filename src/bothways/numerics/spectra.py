"""Mean amplitude spectrum of images, resampled to any size (the magnitude constraint of MaCo).

    magnitude(f) = mean over pictures |F(f)|,   F = rfft2 of a picture in decorrelated colours, orthonormal

Frequencies are in cycles per side of a picture: downsampling a photograph keeps the amplitudes below the new Nyquist
frequency and removes the others. So the spectrum is truncated for smaller pictures, and extrapolated for larger ones by
a fitted power law (Field 1987, JOSA A 4, p. 2379).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bothways.brief import Kept
from bothways.types import UserError

SMALLEST = 16  # pixels of a side: with fewer no power law can be fitted
# The trusted band of each colour axis ends at S over these, in cycles per side. Above it resampling has attenuated the
# pictures, and their colours from half of that on (JPEG stores chroma at half the resolution).
TRUSTED = (4, 8, 8)
FLOOR = 1e-8  # of a magnitude, so that a colour absent from all pictures does not give log 0
# Nearly the principal axes of natural colours: lightness, red to blue, green to purple (Ohta, Kanade & Sakai 1980)
COLOUR_AXES = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (-1 / math.sqrt(6), 2 / math.sqrt(6), -1 / math.sqrt(6)),
)


def decorrelated(image: Tensor) -> Tensor:
    """Decorrelated colours of RGB images (B,3,H,W): an orthonormal change of basis, which keeps energy."""
    return torch.einsum("kc,bchw->bkhw", image.new_tensor(COLOUR_AXES), image)


def recorrelated(planes: Tensor) -> Tensor:
    """RGB from decorrelated colours (B,3,H,W): the inverse of ``decorrelated``."""
    return torch.einsum("kc,bkhw->bchw", planes.new_tensor(COLOUR_AXES), planes)


def amplitudes(images: Tensor) -> Tensor:
    """Amplitude spectrum |F| in decorrelated colours, (B,3,H,W) in [0,1] -> (B,3,H,W//2+1), orthonormal."""
    return torch.fft.rfft2(decorrelated(images), norm="ortho").abs()


def tapered(images: Tensor) -> Tensor:
    """Images (B,C,H,W) less the mean of each channel, times a Hann window of unit mean square."""
    rows, columns = (torch.hann_window(n, periodic=True, dtype=images.dtype) for n in images.shape[-2:])
    window = rows[:, None] * columns
    return (images - images.mean((2, 3), keepdim=True)) * (window / window.square().mean().sqrt()).to(images.device)


def frequencies(height: int, width: int, side: float) -> tuple[Tensor, Tensor]:
    """Frequencies (H,1) and (1,W//2+1) of ``rfft2``, in cycles per ``side`` pixels, float64."""
    fy, fx = (f(n, dtype=torch.float64) * side for f, n in ((torch.fft.fftfreq, height), (torch.fft.rfftfreq, width)))
    return fy[:, None], fx[None, :]


def below(cut: float, height: int, width: int) -> Tensor:
    """Whether a wave of ``rfft2`` has at most ``cut`` cycles per pixel, (H,W//2+1)."""
    return torch.hypot(*frequencies(height, width, 1.0)) <= cut


@dataclass(frozen=True, repr=False)
class Spectrum(Kept):
    """Mean amplitude spectrum, mean colour and covariance of colours of a set of square pictures of S pixels.

    magnitude: (3,S,S//2+1), the mean |F|, orthonormal, in decorrelated colours. mean: (3,), the mean colour, RGB.
    count: of how many pictures. covariance: (3,3), of the RGB of all pixels; None where it was not measured.
    path: of its file.
    """

    magnitude: Tensor
    mean: Tensor
    count: int
    covariance: Tensor | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        shape, size = tuple(self.magnitude.shape), self.size
        if shape != (3, size, size // 2 + 1) or self.mean.shape != (3,) or size < SMALLEST:
            raise UserError(
                f"Spectrum: magnitude {shape}, mean {tuple(self.mean.shape)}; "
                f"give (3,S,S//2+1) and (3,), S at least {SMALLEST}"
            )
        if self.covariance is not None and self.covariance.shape != (3, 3):
            raise UserError(f"Spectrum: covariance {tuple(self.covariance.shape)}; give (3,3)")

    @property
    def kept(self) -> str | None:
        return None if self.path is None else str(self.path)

    @property
    def name(self) -> str:
        """How a run that was given it calls it."""
        parts = (self.magnitude, self.mean, *(() if self.covariance is None else (self.covariance,)))
        digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
        return f"spectrum of {self.count} pictures from Python ({digest[:8]})"

    @property
    def size(self) -> int:
        """S, pixels."""
        return self.magnitude.shape[-2]

    def law(self) -> Tensor:
        """Power-law fit (a, p) of magnitude = exp(a) f^-p on each colour axis, (3,2).

        Least squares on the mean log magnitude of the rings 1, 2, ... cycles per side within the trusted band.
        """
        radius = torch.hypot(*frequencies(self.size, self.size, self.size))
        ring, log = radius.round(), torch.stack([radius.clamp_min(FLOOR).log(), *self._log()])
        fits = []
        for axis, parts in enumerate(TRUSTED, start=1):
            rings = range(1, self.size // parts + 1)
            x, y = torch.stack([log[:, ring == r].mean(1) for r in rings])[:, [0, axis]].T
            fits.append(torch.linalg.lstsq(torch.stack([torch.ones_like(x), -x], 1), y).solution)
        return torch.stack(fits)

    def axes(self) -> Tensor:
        """Principal axes of the colours, each times the standard deviation along it, (3,3) RGB x axis, float64.

            axes axes^T = covariance,   axes^T axes diagonal and falling

        The largest component of each axis is positive. Without a covariance they are ``COLOUR_AXES`` times the
        deviations that the magnitudes have, sqrt(sum over f > 0 of magnitude^2) / S.
        """
        if self.covariance is None:
            power = self.magnitude.double().square()
            power[:, 0, 0] = 0.0
            inner = slice(1, self.size // 2 if self.size % 2 == 0 else None)  # columns that stand for two
            deviation = (power.sum((1, 2)) + power[..., inner].sum((1, 2))).sqrt() / self.size
            return power.new_tensor(COLOUR_AXES).T * deviation
        variance, axes = torch.linalg.eigh(self.covariance.double())
        variance, axes = variance.flip(0).clamp_min(0.0), axes.flip(1)
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        return axes * signs * variance.sqrt()

    def at(self, height: int, width: int, side: int | None = None) -> Tensor:
        """The spectrum resampled to another canvas size, (3,H,W//2+1), orthonormal, float64; zero at frequency zero.

            magnitude(f) side/S,   f in cycles per side

        Inside the measured band the log residual from the fitted power law is interpolated linearly. For pictures
        larger than the measured ones the law extrapolates from the end of the trusted band, with the residual of each
        direction there. The same wave has the same amplitude in pixels at every size; on a canvas that is not square
        the energy in a band of frequencies is kept, over more or fewer waves.

        side: pixels of the side of a picture in the canvas; None for the shorter side of it.
        """
        from scipy.ndimage import map_coordinates  # a tenth of a second to import, for photographs alone

        side = side or min(height, width)
        law, (fy, fx) = self.law(), frequencies(height, width, side)
        radius = torch.hypot(fy, fx).clamp_min(FLOOR)
        about = self._log() - _power(law, torch.hypot(*frequencies(self.size, self.size, self.size)).clamp_min(FLOOR))
        about[:, 0, 0] = 0.0  # frequency zero is the mean, which the law does not describe
        log = _power(law, radius)
        for plane, found, parts in zip(about.roll(self.size // 2, 1), log, TRUSTED, strict=True):
            reach = (self.size / parts / radius).clamp_max(1.0) if side > self.size else torch.ones_like(radius)
            places = torch.stack([fy * reach + self.size // 2, fx * reach])
            found += torch.from_numpy(map_coordinates(plane.numpy(), places.numpy(), order=1, mode="nearest"))
        magnitude = log.exp() * (side / self.size)
        magnitude[:, 0, 0] = 0.0
        ends = [0, width // 2] if width % 2 == 0 else [0]  # columns with both of each pair of conjugate frequencies
        magnitude[..., ends] = 0.5 * (magnitude + magnitude.flip(1).roll(1, 1))[..., ends]
        return magnitude

    def _log(self) -> Tensor:
        return self.magnitude.double().clamp_min(FLOOR).log()


def _power(law: Tensor, radius: Tensor) -> Tensor:
    """The fitted law a - p log f, (3, *radius.shape)."""
    a, p = law.T
    return a[:, None, None] - p[:, None, None] * radius.log()
