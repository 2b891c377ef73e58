"""How pictures are resized to the size that a network sees.

ours     the shorter side resized to the size, bicubic, then a centre crop
model    resized by the model's own filter to size / crop, the shorter side or (squash) both, then a centre crop
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bothways.types import ModelSpec


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
