"""The result of ``statistics``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bothways.brief import Brief


@dataclass(frozen=True, repr=False)
class Statistics(Brief):
    """Measured statistics. tensors: as in the file (files.py). pictures: their number. path: of the file."""

    tensors: dict[str, Tensor]
    pictures: int
    path: Path | None = None
