"""A result in one line: what it holds, and none of its numbers one by one; an error in one; a text in a file's name."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any

LONGEST = 60  # characters of a text, and of a list of numbers
# Letters that move the cursor, change a terminal or the order of letters, and halves of pairs, which have no bytes.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NAME_AT_MOST = 40  # characters of a part of a file's name, and three times as many bytes: file systems take 255 in all


def escaped(text: str) -> str:
    r"""A line with its control characters written out, such as \x1b and \n: names of files and classes can hold any."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def part_of_name(text: str, also: str = "") -> str:
    """``text`` as a part of the name of a file: letters, digits and ``also``, hyphens for the rest; "" if none is left.

    Letters of any script with their marks, composed (NFC), as far as the file system can name them.
    """
    kept = ""
    for letter in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(letter)[0]
        taken = kind in "LN" or letter in also or (kind == "M" and kept[-1:] not in ("", "-"))  # a mark needs a letter
        kept += letter if taken else "-"
    coding = sys.getfilesystemencoding()
    able = kept.encode(coding, "ignore").decode(coding)
    short = re.sub("-+", "-", able).strip("-.")[:NAME_AT_MOST].encode()[: 3 * NAME_AT_MOST]
    return short.decode(errors="ignore").strip("-.")


class OneLine(Exception):  # noqa: N818 - the base of errors
    """Base of errors whose text is one line, whatever stands in it."""

    def __str__(self) -> str:
        return escaped(super().__str__())


class Brief:
    """Base of results whose text is one line: ``Result(images=(8, 3, 32, 32), records=8 of dict, ...)``."""

    def __repr__(self) -> str:
        names = [f.name for f in fields(self)] if is_dataclass(self) else list(getattr(type(self), "model_fields", ()))
        return f"{type(self).__name__}({', '.join(f'{name}={brief(getattr(self, name))}' for name in names)})"

    def __str__(self) -> str:
        return repr(self)


class Kept(Brief):
    """Base of results that are read again from where they were written, and stand for that place in an argument."""

    @property
    def kept(self) -> str | None:
        """The address of its file or run folder; None for a result that is in memory alone."""
        return None

    @property
    def held(self) -> Any:
        """What stands for it where no address does."""
        return self


def stand_in(given: Any) -> Any:
    """The address of a result that was written, else what it holds, in lists and tables too; others as they are."""
    if type(given) in (list, tuple):
        return type(given)(map(stand_in, given))
    if type(given) is dict:
        return {name: stand_in(value) for name, value in given.items()}
    return (given.kept or given.held) if isinstance(given, Kept) else given


def brief(value: Any) -> str:
    """A value in few words: arrays by their shape, long lists by their length, tables by their keys."""
    if hasattr(value, "shape"):
        return str(tuple(value.shape))
    if isinstance(value, Mapping):
        return f"{{{_cut(', '.join(map(str, value)))}}}"
    if isinstance(value, str):
        return repr(_cut(value))
    if isinstance(value, list | tuple):
        text = repr(value) if all(isinstance(one, str | int | float) for one in value) else ""
        inner = type(value[0]).__name__ if value else "nothing"
        return text if text and len(text) <= LONGEST else f"{len(value)} of {inner}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    text = str(value)
    return _cut(text) if "\n" not in text else type(value).__name__


def shown(value: Any) -> str:
    """A value that is wrong, as it is written where that is short, else in few words."""
    text = "" if hasattr(value, "shape") else repr(value)
    return text if text and len(text) <= LONGEST else f"{type(value).__name__} {brief(value)}"


def joined(names: Sequence[str]) -> str:
    """Join names: "a", "a and b", "a, b and c"; "none" of none."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"


def wrong_kind(given: Mapping[str, tuple[Any, Any]]) -> str:
    """What is wrong with the first of {name: (value, its class or classes)} that is of none; "" where all are well."""
    for name, (value, kinds) in given.items():
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            return f"{name} is {shown(value)}; give {names}"
    return ""


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
