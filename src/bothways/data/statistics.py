"""Measured statistics of a model where a command takes data: the object, or the address of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from bothways.brief import Kept

STATISTICS = ".safetensors"  # suffix of the files of bothways statistics


@dataclass(frozen=True, repr=False)
class Statistics(Kept):
    """Measured statistics of a model. tensors: as in the file. pictures: their number. path: of the file.

    facts: the file's metadata, which says what they were measured with.
    """

    tensors: dict[str, Tensor]
    pictures: int
    path: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> str | None:
        return None if self.path is None else str(self.path)

    @cached_property
    def name(self) -> str:
        """How a run that was given them calls them."""
        found = hashlib.sha256("".join(self.facts.values()).encode())
        for key in sorted(self.tensors):
            found.update(key.encode() + self.tensors[key].numpy().tobytes())
        return f"statistics of {self.pictures} pictures from Python ({found.hexdigest()[:8]})"


def is_statistics(data: Any) -> bool:
    """Whether ``data`` is what ``bothways statistics`` measured, or its file, and not a set of images."""
    return isinstance(data, Statistics) or (data is not None and str(data).endswith(STATISTICS))
