"""The spectrum of natural pictures, measured on a data set and kept in one small safetensors file.

magnitude (3,S,S//2+1) half, mean (3,) float, count (1,) whole       see :class:`bothways.numerics.spectra.Spectrum`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bothways.data.entries import Entries
from bothways.data.sources import decoded, find_images
from bothways.models.catalogue import BUNDLED
from bothways.numerics.spectra import SMALLEST, Spectrum, amplitudes
from bothways.runs.files import reason, replace_file
from bothways.types import Frame, UserError

BUNDLED_SPECTRUM = BUNDLED / "natural.spectrum.safetensors"
SUFFIX = ".safetensors"
PICTURES_AT_ONCE = 64


def read_spectrum(path: str | Path | None = None) -> Spectrum:
    """The spectrum in a file that ``spectrum`` wrote; None for the bundled one. Raises UserError for what is none."""
    file = BUNDLED_SPECTRUM if path is None else Path(path)
    again = f"type bothways spectrum --data FOLDER_OR_PARQUET --out {file}"
    if not file.is_file():
        raise UserError(f"spectrum {str(file)!r} does not exist; {again}")
    try:
        found = load_file(file)
        return Spectrum(found["magnitude"].double(), found["mean"].double(), int(found["count"]))
    except KeyError as error:
        raise UserError(f"spectrum {str(file)!r} holds no {error}, so it is none; {again}") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"spectrum {str(file)!r} cannot be read ({error}); {again}") from error


def write_spectrum(path: Path, found: Spectrum) -> None:
    """Whole or not at all, in half precision. Raises UserError where the place refuses."""
    kept = {"magnitude": found.magnitude.half().contiguous(), "mean": found.mean.float()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save(kept | {"count": torch.tensor([found.count])}))
    except OSError as error:
        raise UserError(f"--out {path}: {reason(error)}; choose a place that can be written") from error


@dataclass
class Measuring:
    """One measurement: ``run`` reads the pictures, ``finish`` gives the spectrum and writes its file.

    total: how many pictures there are. size: pixels of a side; None for their own.
    """

    data: str
    total: int
    entries: Entries
    size: int | None
    path: Path | None
    pending: list[np.ndarray] = field(default_factory=list)
    magnitudes: Tensor = field(default_factory=lambda: torch.zeros(()))
    colours: Tensor = field(default_factory=lambda: torch.zeros(()))
    count: int = 0

    def run(self) -> Iterator[Frame]:
        """Yield a frame after every picture. Raises UserError where their sizes do not do."""
        shape = None if self.size is None else (self.size, self.size, 3)
        for image, _ in decoded(self.entries, self.size, self.data, []):
            shape = shape or image.shape
            if image.shape != shape or shape[0] != shape[1] or shape[0] < SMALLEST:
                said = f"{image.shape[0]}x{image.shape[1]}"
                raise UserError(
                    f"data {self.data!r} has a picture of {said}, and all must be squares of one size, at least "
                    f"{SMALLEST}; type --size 224, or another"
                )
            self.pending.append(image)
            if len(self.pending) == PICTURES_AT_ONCE:
                self._add()
            self.count += 1
            yield Frame(self.count, self.count / self.total)
        self._add()

    def finish(self) -> Spectrum:
        """The spectrum of what was read."""
        found = Spectrum(self.magnitudes / self.count, self.colours / self.count, self.count)
        if self.path is not None:
            write_spectrum(self.path, found)
        return found

    def _add(self) -> None:
        if self.pending:
            images = torch.from_numpy(np.stack(self.pending)).permute(0, 3, 1, 2).double() / 255
            self.magnitudes = self.magnitudes + amplitudes(images).sum(0)
            self.colours = self.colours + images.mean((2, 3)).sum(0)
            self.pending.clear()


def prepare_spectrum(
    data: str | Path,
    *,
    size: int | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Measuring:
    """Everything of ``spectrum`` that can be refused before pictures are read."""
    if size is not None and size < SMALLEST:
        raise UserError(f"--size {size}: {SMALLEST} pixels are the least; type --size {SMALLEST} or more")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: one picture is the least; type --limit 1000, or leave it out")
    path = None if out is None else Path(out)
    if path is not None and (path.suffix != SUFFIX or path.is_dir()):
        raise UserError(f"--out {path}: type the name of a {SUFFIX} file")
    if path is not None and path.exists() and not overwrite:
        raise UserError(f"--out {path} is there already; type --overwrite, or another name")
    found = find_images(data, limit=limit)
    return Measuring(str(data), found.count, found.entries, size, path)


def spectrum(
    data: str | Path,
    *,
    size: int | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    on_frame: Callable[[Frame], None] | None = None,
) -> Spectrum:
    """The mean amplitude spectrum of pictures, for the recipe ``maco``.

        magnitude(f) = mean over pictures |rfft2(picture in decorrelated colours)|, orthonormal

    data: a parquet file or a folder; its training split is read, one picture at a time. size: pixels of a side, to
    which each is resized and cut as by ``load_images``; None where all are squares of one size. limit: pictures at
    most, evenly spaced. out: a .safetensors file, later given as ``canvas.spectrum``. on_frame: after every picture.
    Raises UserError for what cannot be.
    """
    measuring = prepare_spectrum(data, size=size, limit=limit, out=out, overwrite=overwrite)
    for frame in measuring.run():
        if on_frame is not None:
            on_frame(frame)
    return measuring.finish()
