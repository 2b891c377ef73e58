"""How pictures are resized to the size that a network sees.

ours     the shorter side resized to the size, bicubic, then a centre crop
model    resized by the model's own filter to size / crop, the shorter side or (squash) both, then a centre crop
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from bothways.brief import shown
from bothways.types import ModelSpec, UserError

WHOLE_AT_MOST = 16_000_000  # pixels to which a whole picture is resized before it is cut


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


def check_size(size: Any) -> None:
    """Raise UserError for a size that is neither an int, (height, width), a Fit nor None."""
    if size is None or isinstance(size, Fit):
        return
    sides = size if isinstance(size, tuple | list) and len(size) == 2 else (size,)
    if not all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= 2**14 for side in sides):
        raise UserError(f"size is {shown(size)}; give an int such as 224, or (height, width), from 1 to 16384")


def height_width(size: Size) -> tuple[int, int]:
    """Of what is read."""
    if isinstance(size, Fit):
        return size.height, size.width
    return (size, size) if isinstance(size, int) else size


def fitted(picture: Image.Image, size: Size) -> np.ndarray:
    """(height, width, 3) uint8: the picture resized where its size differs, and the centre cut out."""
    height, width = height_width(size)
    (high, wide), kind, (top, left) = planned(picture.size, size)
    if high * wide > WHOLE_AT_MOST:  # what is cut away is never made
        across, down = picture.width / wide, picture.height / high
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        return np.asarray(picture.resize((width, height), kind, box=box))
    if (wide, high) != picture.size:
        picture = picture.resize((wide, high), kind)
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def planned(pixels: tuple[int, int], size: Size) -> tuple[tuple[int, int], Image.Resampling, tuple[int, int]]:
    """((height, width) to resize to, the filter, (top, left) of what is cut out) of a picture of (width, height)."""
    height, width = height_width(size)
    high, wide, kind = _by_model(pixels, size) if isinstance(size, Fit) else _by_us(pixels, height, width)
    if isinstance(size, Fit):
        return (high, wide), kind, (round((high - height) / 2), round((wide - width) / 2))  # as torchvision has it
    return (high, wide), kind, ((high - height) // 2, (wide - width) // 2)


def bytes_beside(pixels: tuple[int, int], size: Size | None) -> float:
    """Bytes that are made of a picture of (width, height) on the way to a size, beside itself."""
    if size is None:
        return 16.0 * pixels[0] * pixels[1]  # as bytes, and as floats where it is drawn
    height, width = height_width(size)
    (high, wide), _, _ = planned(pixels, size)
    if high * wide > WHOLE_AT_MOST:
        high, wide = height, width
    return 4.0 * wide * (high + pixels[1])  # Pillow makes the new width at the old height first


def _by_us(pixels: tuple[int, int], height: int, width: int) -> tuple[int, int, Image.Resampling]:
    """(height, width) to resize to, and the filter."""
    scale = max(height / pixels[1], width / pixels[0])
    wide, high = max(width, round(pixels[0] * scale)), max(height, round(pixels[1] * scale))
    return high, wide, Image.Resampling.BICUBIC


def _by_model(pixels: tuple[int, int], fit: Fit) -> tuple[int, int, Image.Resampling]:
    """The same, as timm and transformers round: the side that is stated and the one that follows are both cut down."""
    high, wide = (int(side / fit.crop + 1e-6) for side in (fit.height, fit.width))
    if not fit.squash:
        scale = max(high / pixels[1], wide / pixels[0])
        high, wide = max(high, int(pixels[1] * scale + 1e-6)), max(wide, int(pixels[0] * scale + 1e-6))
    return high, wide, Image.Resampling[fit.interpolation.upper()]
