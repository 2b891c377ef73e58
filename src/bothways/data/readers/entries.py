"""What every source of pictures gives: encoded pictures with their labels, one by one."""

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
class Found:
    """The pictures of a split. classes: their names; count: of pictures; levels: values that a channel can take."""

    classes: tuple[str, ...]
    count: int
    entries: Entries
    levels: int = 256


def bytes_of(file: Path) -> bytes:
    """A file's bytes; none where it cannot be opened, so that it is named and skipped with the damaged ones."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def as_png(pixels: np.ndarray) -> bytes:
    """(H,W) or (H,W,3) uint8 as an encoded picture."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def spaced(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` of 0..count-1, evenly spaced."""
    if limit is None or limit >= count:
        return list(range(count))
    return [round(i * (count - 1) / max(1, limit - 1)) for i in range(limit)]
