"""Encoded bytes, or a picture that PIL holds -> (H,W,3) of bytes: RGB, upright, of its whole depth.

16 bits a channel      byte = round(value / 257);   of colour PIL keeps the upper byte, at most 1 of 255 away
floats                 byte = round(255 value), of values in [0, 1]; others have no white that is known
orientation (EXIF)     applied, as every viewer does
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bothways import budget
from bothways.data.readers.fit import Size, bytes_of_reading, fitted
from bothways.reading import PIXELS_AT_MOST

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}  # of several frames the first is read
ALWAYS_READ = 32_000_000  # bytes for which the free memory is not looked up, as for most pictures


def decode_image(data: bytes, size: Size | None = None) -> np.ndarray:
    """Encoded bytes -> (H,W,3) uint8 RGB; with a size, the shorter side is resized to it and the centre cut out.

    Raises ValueError for what is not a picture, for more than PIXELS_AT_MOST, for more memory than is free, and for a
    depth without a known white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            warnings.filterwarnings("ignore", module="PIL")  # of damaged metadata, beside pixels that are whole
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > PIXELS_AT_MOST:
                    raise ValueError(f"{opened.width} x {opened.height} pixels are more than {PIXELS_AT_MOST}")
                check_free_memory(opened, size)
                picture = as_rgb(opened)
    except UnidentifiedImageError as error:  # whose own words are the address of a buffer
        raise ValueError("no image that can be read") from error
    except Exception as error:  # a damaged file makes its decoder raise anything
        raise ValueError(str(error) or type(error).__name__) from error
    return np.asarray(picture) if size is None else fitted(picture, size)


def check_free_memory(picture: Image.Image, size: Size | None = None) -> None:
    """Raise ValueError for a picture, of which only the header is read, that would take more memory than is free."""
    need = bytes_of_reading(picture.size, size, deep=picture.mode[:1] in "IF")
    if need > ALWAYS_READ and need > (free := budget.free_memory()):
        pixels = f"{picture.width} x {picture.height} pixels"
        raise ValueError(
            f"{pixels} would take about {budget.amount(need)} of memory, and {budget.amount(free)} are free"
        )


def as_rgb(picture: Image.Image) -> Image.Image:
    """The same picture as RGB of 8 bits a channel, turned as its EXIF orientation says.

    Raises ValueError for floats outside [0, 1] and for whole numbers of 32 bits.
    """
    return _in_eight_bits(upright(picture), picture.format == "PNG").convert("RGB")


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as it is where there is none that can be read."""
    picture.load()  # what is damaged there is damage, what is damaged in the metadata is not
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # whatever damaged metadata raise
        return picture


def _in_eight_bits(picture: Image.Image, png: bool) -> Image.Image:
    """A picture of 16 bits, or of floats in [0, 1], as 8 bits; any other as it is."""
    deep = picture.mode.startswith("I;16") or (picture.mode == "I" and png)  # a PNG has no more than 16 bits
    if not deep and picture.mode not in ("I", "F"):
        return picture
    values = np.asarray(picture).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if deep:
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if picture.mode == "I" or not (low >= 0 and high <= 1):
        kind = "whole numbers of 32 bits" if picture.mode == "I" else "floats"
        raise ValueError(f"{kind} from {low:g} to {high:g}, whose white is not known; save it in 8 or 16 bits")
    return Image.fromarray(np.round(255 * values).astype(np.uint8))
