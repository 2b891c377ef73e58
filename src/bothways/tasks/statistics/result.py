"""What ``statistics`` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """What was measured. tensors: the file's (files.py); pictures: of how many; path: where it was written."""

    tensors: dict[str, Tensor]
    pictures: int
    path: Path | None = None
