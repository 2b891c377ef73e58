"""The common form of image sources: a stream of encoded images with labels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Entry = tuple[str, bytes, int]  # a picture's name, its encoded bytes, its label or -1
Entries = Iterator[Entry]


@dataclass(frozen=True)
class SplitEntries:
    """The images of a split. classes: names; count: of images; levels: number of values that a channel can take."""

    classes: tuple[str, ...]
    count: int
    entries: Entries
    levels: int = 256


def bytes_of(file: Path) -> bytes:
    """A file's bytes; empty if it cannot be opened, so that it is reported and skipped like a damaged one."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def as_png(pixels: np.ndarray) -> bytes:
    """Encode (H,W) or (H,W,3) uint8 as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` evenly spaced indices of 0..count-1."""
    if limit is None or limit >= count:
        return list(range(count))
    return [round(i * (count - 1) / max(1, limit - 1)) for i in range(limit)]
