"""Encoded bytes, or a picture that PIL holds -> (H,W,3) of bytes: RGB, upright, of its whole depth.

16 bits a channel      byte = round(value / 257);   of colour PIL keeps the upper byte, at most 1 of 255 away
floats                 byte = round(255 value), of values in [0, 1]; others have no white that is known
orientation (EXIF)     applied, as every viewer does
transparency           on white (transparent.py)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from bothways.data.readers.entries import Entries
from bothways.data.readers.fit import Size, bytes_beside, fitted
from bothways.data.readers.transparent import WHITE, opaque
from bothways.opening import check_size, opened
from bothways.types import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}  # of several frames the first is read
ROWS = 256  # of a picture of more than 8 bits a channel that are made 8 bits at a time


def decode_image(data: bytes, size: Size | None = None, behind: int = WHITE) -> np.ndarray:
    """Encoded bytes -> (H,W,3) uint8 RGB; with a size, the shorter side is resized to it and the centre cut out.

    behind: the grey level behind what is clear.

    Raises ValueError, in a line, for what is not a picture, for more pixels or memory than ``opening.py`` allows, for
    more memory than is free, and for a depth without a known white.
    """
    with opened(data) as found:
        check_size(found, more=bytes_beside(found.size, size))
        picture = as_rgb(found, behind)
        return np.asarray(picture) if size is None else fitted(picture, size)


def decoded(entries: Entries, size: Size | None, address: str, skipped: list[str]) -> Iterator[tuple[np.ndarray, int]]:
    """((H,W,3) uint8, label) of each picture that can be read; the others are named in ``skipped``, with a warning.

    Raises UserError if no image can be read.
    """
    count = 0
    for name, data, label in entries:
        try:
            image = decode_image(data, size)
        except ValueError as error:
            skipped.append(f"{name}: {error}")
            continue
        count += 1
        yield image, label
    if not count:
        first = f", the first: {skipped[0]}" if skipped else "; type a parquet file or a folder of pictures"
        raise UserError(f"data {address!r} has no readable picture ({len(skipped)} unreadable){first}")
    if skipped:
        warnings.warn(f"{len(skipped)} unreadable pictures skipped, the first: {skipped[0]}", stacklevel=4)


def as_rgb(picture: Image.Image, behind: int = WHITE) -> Image.Image:
    """The same picture as RGB of 8 bits a channel, turned as its EXIF orientation says, its clear parts on white.

    Raises ValueError for floats outside [0, 1] and for whole numbers of 32 bits.
    """
    return opaque(_in_eight_bits(upright(picture), picture.format == "PNG"), behind)


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
    values = np.asarray(picture)
    if not deep:
        low, high = float(values.min()), float(values.max())
        if picture.mode == "I" or not (low >= 0 and high <= 1):
            kind = "whole numbers of 32 bits" if picture.mode == "I" else "floats"
            raise ValueError(f"{kind} from {low:g} to {high:g}, whose white is not known; save it in 8 or 16 bits")
    found = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), ROWS):  # in doubles, of which a whole picture would be large
        part = values[first : first + ROWS].astype(np.float64)
        found[first : first + ROWS] = np.round(part / 257 if deep else 255 * part)
    return Image.fromarray(found)
