"""The files of mean amplitude spectra, and the bundled one.

magnitude (3,S,S//2+1) half, mean (3,) float, count (1,) whole, covariance (3,3) float, which earlier files lack
                                                                     see :class:`bothways.numerics.spectra.Spectrum`
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bothways.models.cards import BUNDLED
from bothways.numerics.spectra import Spectrum
from bothways.reading import is_there
from bothways.tasks.work import write_file
from bothways.types import UserError

SCHEME, NATURAL = "bundled:", "bundled:natural"
SUFFIX = ".safetensors"


def read_spectrum(path: str | Path | None = None) -> Spectrum:
    """Read a spectrum file, or a bundled one: "bundled:natural" (None) of 32 pixels, "bundled:photographs" of 256.

    Raises UserError if it is missing or not a spectrum.
    """
    name = NATURAL if path is None else str(path)
    file = Path(name)
    if name.startswith(SCHEME):
        file = BUNDLED / f"{name.removeprefix(SCHEME)}.spectrum{SUFFIX}"
    again = f"type bothways spectrum --data FOLDER_OR_PARQUET --out {file}"
    if not is_there(file):
        raise UserError(f"spectrum {str(file)!r} does not exist; {again}")
    try:
        found = load_file(file)
        covariance = found["covariance"].double() if "covariance" in found else None
        return Spectrum(found["magnitude"].double(), found["mean"].double(), int(found["count"]), covariance)
    except KeyError as error:
        raise UserError(f"spectrum {str(file)!r} holds no {error}, so it is not a spectrum; {again}") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"spectrum {str(file)!r} cannot be read ({error}); {again}") from error


def write_spectrum(path: Path, found: Spectrum) -> None:
    """Write a spectrum atomically, its magnitudes in half precision. Raises UserError if it cannot be written."""
    kept = {"magnitude": found.magnitude.half().contiguous(), "mean": found.mean.float()}
    if found.covariance is not None:
        kept["covariance"] = found.covariance.float().contiguous()
    write_file(path, save(kept | {"count": torch.tensor([found.count])}))
