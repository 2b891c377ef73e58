"""What every source of pictures gives: encoded pictures with their labels, one by one; and how they are resized.

ours     the shorter side resized to the size, bicubic, and the centre cut out
model    resized by its own filter to size / crop, the shorter side or (squash) both, and the centre cut out
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bothways.types import ModelSpec

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


# ---- to the size that a network sees -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A model's own way to its size. height, width: pixels; crop, interpolation, squash: as ``ModelSpec`` has them."""

    height: int
    width: int
    crop: float = 1.0
    interpolation: str = "bicubic"
    squash: bool = False


Size = int | tuple[int, int] | Fit
"""Pixels, an int or (height, width), for ours; or a model's own way."""


def size_of(spec: ModelSpec, preprocess: str = "model") -> tuple[int, int] | Fit:
    """How pictures are read for a model.

    preprocess: "ours", or "model" for what its spec states; where that states nothing, it is ours.
    """
    own = Fit(spec.height, spec.width, spec.crop, spec.interpolation, spec.squash)
    plain = (spec.height, spec.width)
    return plain if preprocess == "ours" or own == Fit(*plain) else own


def height_width(size: Size) -> tuple[int, int]:
    """Of what is read."""
    if isinstance(size, Fit):
        return size.height, size.width
    return (size, size) if isinstance(size, int) else size


def fitted(picture: Image.Image, size: Size) -> np.ndarray:
    """(height, width, 3) uint8: the picture resized where its size differs, and the centre cut out."""
    height, width = height_width(size)
    high, wide, kind = _by_model(picture, size) if isinstance(size, Fit) else _by_us(picture, height, width)
    if (wide, high) != picture.size:
        picture = picture.resize((wide, high), kind)
    if isinstance(size, Fit):
        left, top = round((wide - width) / 2), round((high - height) / 2)  # as torchvision has it
    else:
        left, top = (wide - width) // 2, (high - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def _by_us(picture: Image.Image, height: int, width: int) -> tuple[int, int, Image.Resampling]:
    """(height, width) to resize to, and the filter."""
    scale = max(height / picture.height, width / picture.width)
    wide, high = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    return high, wide, Image.Resampling.BICUBIC


def _by_model(picture: Image.Image, fit: Fit) -> tuple[int, int, Image.Resampling]:
    """The same, as timm and transformers round: the side that is stated and the one that follows are both cut down."""
    high, wide = (int(side / fit.crop + 1e-6) for side in (fit.height, fit.width))
    if not fit.squash:
        scale = max(high / picture.height, wide / picture.width)
        high, wide = max(high, int(picture.height * scale + 1e-6)), max(wide, int(picture.width * scale + 1e-6))
    return high, wide, Image.Resampling[fit.interpolation.upper()]
