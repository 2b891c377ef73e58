"""Text on a picture in a font that has its letters: never boxes, and cut with an ellipsis where it is long."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from bothways.types import UserError

ELLIPSIS = "…"
DOTS = "..."  # where the font has no ellipsis
MISSING = "\U0010ffff"  # no font has it: its picture is that of every letter that is missing
FONTS_AT_MOST = 400  # files that are tried
PREFERRED = (
    "dejavusans", "notosans-regular", "arial", "liberationsans-regular", "segoeui", "helvetica", "arial unicode",
    "notosanscjk-regular", "notosanscjksc-regular", "pingfang", "hiragino sans gb", "msyh", "msgothic", "malgun",
    "wqy-microhei", "wqy-zenhei", "droidsansfallback", "unifont",
)  # fmt: skip

Font = ImageFont.FreeTypeFont


def fitted(text: str, size: int, width: float, otherwise: str = "") -> tuple[str, Font]:
    """The text as it can be written, and its font: at most ``width`` pixels wide, with an ellipsis where it is cut.

    otherwise: what is written, in plain letters, where no font of this machine has the letters of the text; before
    that, accents are left out.
    """
    line = " ".join(text.split())
    for form in (line, _without_accents(line)):
        if form and (font := font_of(form, size)) is not None:
            return cut(form, font, width), font
    font = _plain(size)
    return cut(_without_accents(otherwise).encode("ascii", "ignore").decode(), font, width), font


def cut(text: str, font: Font, width: float) -> str:
    """The text, or as much of it as fits before an ellipsis."""
    if font.getlength(text) <= width:
        return text
    end = ELLIPSIS if _has(font, ELLIPSIS) else DOTS
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle].rstrip() + end) <= width else (low, middle - 1)
    return text[:low].rstrip() + end


def font_of(text: str, size: int) -> Font | None:
    """The first font that has every letter of the text: the one that comes with Pillow, then those of this machine."""
    if _writes(_plain(size), text):
        return _plain(size)
    for path in _files():
        font = _loaded(path, size)
        if font is not None and _writes(font, text):
            return font
    return None


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _writes(font: Font, text: str) -> bool:
    return all(_has(font, letter) for letter in set(text) if not letter.isspace())


@lru_cache(maxsize=10_000)
def _has(font: Font, letter: str) -> bool:
    try:
        return _drawn(font, letter) != _drawn(font, MISSING)
    except (OSError, ValueError):
        return False


def _drawn(font: Font, letter: str) -> tuple[object, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@cache
def _plain(size: int) -> Font:
    try:
        font = ImageFont.load_default(size)
    except ImportError:
        font = None
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UserError("a contact sheet needs Pillow with FreeType; type pip install --force-reinstall pillow")
    return font


@cache
def _loaded(path: Path, size: int) -> Font | None:
    try:
        return ImageFont.truetype(str(path), size)
    except (OSError, ValueError):
        return None


@cache
def _files() -> tuple[Path, ...]:
    """The fonts of this machine, those with many letters first."""
    found = {path.stem.casefold(): path for place in _places() for path in _below(place)}
    first = [found[name] for name in PREFERRED if name in found]
    rest = sorted(set(found.values()) - set(first), key=lambda path: ("regular" not in path.stem.casefold(), path.name))
    return tuple([*first, *rest][:FONTS_AT_MOST])


def _below(place: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(place):
        yield from (Path(folder) / name for name in names if name.lower().endswith((".ttf", ".otf", ".ttc")))


def _places() -> tuple[Path, ...]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - never raises, as Path.home does
    if sys.platform == "win32":
        return (Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts", home / "AppData/Local/Microsoft/Windows/Fonts")
    if sys.platform == "darwin":
        return (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    return (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts")
