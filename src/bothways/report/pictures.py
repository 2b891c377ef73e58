"""Embed pictures in the page: the files as they are, or large pictures as JPEG if the page would be too big.

The JPEGs have no chroma subsampling, which would blur the fine colour detail of drawn pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from bothways.opening import PIXELS_AT_MOST, opened
from bothways.reading import read_bytes, reason
from bothways.types import UserError

SMALL = 96  # pixels; smaller pictures are enlarged by a whole factor to 96..128 and never become JPEG
LARGE = 224  # pixels; larger pictures are shown at this size
BYTES_AT_MOST = 4_100_000  # of all pictures of a page: 5.5 MB in base64, beside 2 MB of Plotly
# (quality, maximum pixels of the longer side), best first; the last is used whatever the size of the page
LADDER = (*((quality, 4096) for quality in (92, *range(85, 30, -5))), (35, 448), (35, 224), (20, 224))
SAMPLE = 12  # pictures from which the size at a quality is estimated before all are encoded

Size = tuple[int, int]


def shown_size(width: int, height: int) -> Size:
    """The displayed size of a picture in CSS pixels: 32 -> 96, 28 -> 112, 64 -> 128, 224 -> 224, 512 -> 224."""
    long = max(width, height)
    scale = min(-(-SMALL // long), 128 / long) if long < SMALL else min(1.0, LARGE / long)
    return round(width * scale), round(height * scale)


def png_size(content: bytes) -> Size:
    """(width, height) from the header of a PNG. Raises UserError if it is not a PNG, or none of a usual size."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise UserError("not a PNG file")
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if not 0 < width * height <= PIXELS_AT_MOST:
        raise UserError(f"a PNG of {width} x {height} pixels")
    return width, height


@dataclass(frozen=True)
class Album:
    """The pictures of a page.

    contents: {path: bytes of the file}. shrunk: {path: bytes of the JPEG that replaces it}. quality: of the JPEGs.
    """

    contents: Mapping[Path, bytes]
    shrunk: Mapping[Path, bytes]
    quality: int = 100

    def embedded(self, path: Path, size: Callable[[int, int], Size] = shown_size) -> dict[str, Any]:
        """The values of a picture for the template. size: (width, height) in pixels -> in CSS pixels."""
        width, height = png_size(self.contents[path])
        shown = size(width, height)
        kind = "jpeg" if path in self.shrunk else "png"
        content = base64.b64encode(self.shrunk.get(path, self.contents[path])).decode()
        source = f"data:image/{kind};base64,{content}"
        return {"src": source, "width": shown[0], "height": shown[1], "crisp": shown[0] > width}

    def remark(self, folder: Path, place: str) -> str:
        """A note if pictures of a run are embedded as JPEG; else empty. place: where their files are."""
        if not any(path.is_relative_to(folder) for path in self.shrunk):
            return ""
        why = f"To keep this page small the pictures are embedded as JPEG of quality {self.quality}"
        return f"{why}; the original files are in {place}."


def album(paths: Iterable[Path], at_most: int = BYTES_AT_MOST) -> Album:
    """Read pictures, and convert the large ones to JPEG if all together exceed ``at_most`` bytes.

    The best quality that fits is used. Raises UserError if a picture is missing or not a PNG.
    """
    contents = {path: _read(path) for path in paths}
    large = {path: content for path, content in contents.items() if max(png_size(content)) >= SMALL}
    left = at_most - sum(len(content) for path, content in contents.items() if path not in large)
    if not large or sum(map(len, large.values())) <= left:
        return Album(contents, {})
    quality, shrunk = _fitting(large, left)
    return Album(contents, {path: jpeg for path, jpeg in shrunk.items() if len(jpeg) < len(large[path])}, quality)


def _fitting(large: Mapping[Path, bytes], left: int) -> tuple[int, dict[Path, bytes]]:
    """(quality, JPEGs) of the best quality at which the JPEGs take at most ``left`` bytes."""
    sample = list(large)[:: -(-len(large) // SAMPLE)]
    for rung in LADDER[:-1]:
        if fmean(len(_jpeg(path, large[path], *rung)) for path in sample) * len(large) <= left:
            found = {path: _jpeg(path, content, *rung) for path, content in large.items()}
            if sum(map(len, found.values())) <= left:
                return rung[0], found
    return LADDER[-1][0], {path: _jpeg(path, content, *LADDER[-1]) for path, content in large.items()}


def _read(path: Path) -> bytes:
    try:
        content = read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}; restore the picture, or draw the run again") from error
    try:
        png_size(content)
    except UserError as error:
        raise UserError(f"{path}: {error}; restore the picture, or draw the run again") from error
    return content


def _jpeg(path: Path, content: bytes, quality: int, side: int) -> bytes:
    try:
        with opened(content, ("PNG",)) as picture:
            seen = picture.convert("RGBA")
            shown = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as a PNG; restore the picture, or draw the run again") from error
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
