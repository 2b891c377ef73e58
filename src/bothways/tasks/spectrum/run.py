"""The mean amplitude spectrum and the colours of pictures, read one by one.

magnitude(f) = mean over pictures |rfft2(picture in decorrelated colours)|, orthonormal
covariance   = mean over pixels of x x^T - mean mean^T,   x: RGB; a window fades the magnitudes alone
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from bothways.data.readers.entries import Entries
from bothways.data.sources import decoded, find_images
from bothways.data.splits import training_split
from bothways.numerics.spectra import SMALLEST, Spectrum, amplitudes, tapered
from bothways.runs.experiment import Experiment
from bothways.tasks.spectrum.config import SpectrumConfig
from bothways.tasks.spectrum.files import SUFFIX, write_spectrum
from bothways.tasks.work import Where, Work
from bothways.types import Frame, UserError

PICTURES_AT_ONCE = 64


@final
@dataclass
class SpectrumWork(Work):
    """A run of ``spectrum``. total: number of pictures. magnitudes, colours, squares (of colours): sums so far."""

    data: str
    total: int
    entries: Entries
    size: int | None
    path: Path | None
    windowed: bool = False
    experiment: Experiment = field(default_factory=Experiment)
    pending: list[np.ndarray] = field(default_factory=list)
    magnitudes: Tensor = field(default_factory=lambda: torch.zeros(()))
    colours: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    count: int = 0
    doing = "measuring"
    done_word = "measured"

    @property
    def steps(self) -> int:
        return self.total

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every picture. Raises UserError for unequal, too small or non-square pictures."""
        shape = None if self.size is None else (self.size, self.size, 3)
        for image, _ in decoded(self.entries, self.size, self.data, []):
            shape = shape or image.shape
            if image.shape != shape or shape[0] != shape[1] or shape[0] < SMALLEST:
                size_text = f"{image.shape[0]}x{image.shape[1]}"
                raise UserError(
                    f"data {self.data!r} has a picture of {size_text}, but all must be squares of one size, at least "
                    f"{SMALLEST}; type --size 224, or another"
                )
            self.pending.append(image)
            if len(self.pending) == PICTURES_AT_ONCE:
                self._add()
            self.count += 1
            yield Frame(self.count, self.count / self.total)
        self._add()

    def _add(self) -> None:
        if self.pending:
            images = torch.from_numpy(np.stack(self.pending)).permute(0, 3, 1, 2).double() / 255
            self.magnitudes = self.magnitudes + amplitudes(tapered(images) if self.windowed else images).sum(0)
            self.colours = self.colours + images.mean((2, 3)).sum(0)
            pixels = images.flatten(2)
            self.squares = self.squares + (pixels @ pixels.mT).sum(0) / pixels.shape[2]
            self.pending.clear()

    def measures(self) -> dict[str, Any]:
        """Write the file, and return the number of pictures."""
        if self.path is not None:
            write_spectrum(self.path, self._spectrum())
        return {"pictures": self.count}

    def _spectrum(self) -> Spectrum:
        mean = self.colours / self.count
        covariance = self.squares / self.count - mean[:, None] * mean
        return Spectrum(self.magnitudes / self.count, mean, self.count, covariance, self.path)

    def result(self, measures: dict[str, Any]) -> Spectrum:
        return self._spectrum()

    def as_json(self, result: Spectrum) -> Any:
        found = {"pictures": result.count, "size": result.size, "path": self.path, "law": result.law()}
        return found | {"covariance": result.covariance}

    def summary(self, result: Spectrum, out: Path | None) -> Iterator[str]:
        if self.path is not None:
            size = f"{self.path.stat().st_size / 1000:,.0f} kB"
            pictures = f"{result.count} picture{'s' * (result.count > 1)}"
            yield f"{result.size} x {result.size} over {pictures}, {size} in {self.path}"
        falls = ", ".join(f"{p:.2f}" for p in result.law()[:, 1].tolist())
        yield f"amplitudes fall with frequency to the power {falls} (lightness, red to blue, green to purple)"
        spread = ", ".join(f"{length:.3f}" for length in result.axes().norm(dim=0).tolist())
        yield f"colours deviate by {spread} along their principal axes"
        yield f"bothways generate MODEL --class NAME --recipe maco --set canvas.spectrum={self.path}"

    def page(self, out: Path | None) -> None:
        """None: the task writes a file without a report."""


def prepare(config: SpectrumConfig, where: Where) -> SpectrumWork:
    """Prepare a run of ``spectrum``. Raises UserError for invalid input, before pictures are read."""
    if config.size is not None and config.size < SMALLEST:
        raise UserError(f"--size {config.size}: {SMALLEST} pixels are the least; type --size {SMALLEST} or more")
    path = where.file(SUFFIX, b'"magnitude"')
    found = find_images(config.data, split=config.split or training_split(config.data), limit=config.limit)
    windowed = config.window == "hann"
    return SpectrumWork(str(config.data), found.count, found.entries, config.size, path, windowed)
