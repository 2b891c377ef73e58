"""The files of mean amplitude spectra, and the bundled one.

magnitude (3,S,S//2+1) half, mean (3,) float, count (1,) whole, covariance (3,3) float, which earlier files lack
                                                                     see :class:`bothways.numerics.spectra.Spectrum`
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from bothways.models.cards import BUNDLED
from bothways.models.weights import read_tensors
from bothways.numerics.spectra import Spectrum
from bothways.reading import is_there
from bothways.tasks.work import write_file
from bothways.types import UserError

SCHEME, NATURAL = "bundled:", "bundled:natural"
SUFFIX = ".safetensors"


def read_spectrum(path: str | Path | Spectrum | None = None) -> Spectrum:
    """Read a spectrum file, or a bundled one: "bundled:natural" (None) of 32 pixels, "bundled:photographs" of 256.

    A Spectrum is returned as it is. Raises UserError if it is missing or not a spectrum.
    """
    if isinstance(path, Spectrum):
        return path
    name = NATURAL if path is None else str(path)
    file = Path(name)
    if name.startswith(SCHEME):
        file = BUNDLED / f"{name.removeprefix(SCHEME)}.spectrum{SUFFIX}"
    again = "type bothways spectrum --data FOLDER_OR_PARQUET --out"
    if not is_there(file):
        raise UserError(f"spectrum {str(file)!r} does not exist; {again} {file}")
    again = f"{again} spectrum{SUFFIX}, and that file"  # the one that is there may be the user's own, of another kind
    found = _read(file, again)
    missing = [name for name in ("magnitude", "mean", "count") if name not in found]
    if missing:
        raise UserError(f"spectrum {str(file)!r} holds no {missing[0]!r}, so it is not a spectrum; {again}")
    side = found["magnitude"].shape[1] if found["magnitude"].ndim == 3 else 0
    shapes = {"magnitude": (3, side, side // 2 + 1), "mean": (3,), "count": (1,), "covariance": (3, 3)}
    for name, shape in shapes.items():
        value = found.get(name)
        if value is not None and (value.shape != shape or 0 in shape or value.is_complex()):
            told = f"{name} {tuple(value.shape)} of {value.dtype}"
            raise UserError(f"spectrum {str(file)!r} holds {told}, so it is not a spectrum; {again}")
        if value is not None and not bool(torch.isfinite(value.float()).all()):
            raise UserError(f"spectrum {str(file)!r}: {name} holds values that are not finite; {again}")
    covariance = found["covariance"].double() if "covariance" in found else None
    try:
        return Spectrum(found["magnitude"].double(), found["mean"].double(), int(found["count"]), covariance)
    except ValueError as error:
        raise UserError(f"spectrum {str(file)!r} cannot be read ({error}); {again}") from error


def _read(file: Path, again: str) -> dict[str, Tensor]:
    try:
        return read_tensors(file, "spectrum")
    except UserError as error:
        raise UserError(f"{error}; {again}") from error


def write_spectrum(path: Path, found: Spectrum) -> None:
    """Write a spectrum atomically, its magnitudes in half precision. Raises UserError if it cannot be written."""
    kept = {"magnitude": found.magnitude.half().contiguous(), "mean": found.mean.float()}
    if found.covariance is not None:
        kept["covariance"] = found.covariance.float().contiguous()
    write_file(path, save(kept | {"count": torch.tensor([found.count])}))
