"""The files that a form may name: uploads of this server, the runs, and what its owner allowed at the start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bothways.data.rows.places import file_named
from bothways.data.sources import NAMED
from bothways.reading import at_home
from bothways.registry import is_address
from bothways.tasks.resume import WORDS
from bothways.types import UserError

# Of this process: at most one; where there is none, any file may be named.
_ROOTS: list[tuple[Path, ...]] = []
# Settings whose value may be the bare name of a file in the present folder, such as ``photos``.
OF_FILES = {"model", "flow", "data", "weights", "photo", "style", "mask", "images", "spectrum", "colours"}
OF_FILES |= {"start_photo", "judges", "score", "condition"}
BUNDLED = "bundled:"


def open_only(places: Iterable[str | Path] | None) -> None:
    """From here on the forms may name no file but these, and those below these folders; None lifts it."""
    _ROOTS[:] = [] if places is None else [tuple(at_home(place).resolve() for place in places)]


def refuse_files(settings: Mapping[str, Any], named_by: str) -> None:
    """Raise UserError for a file in settings that the forms may not name. named_by: "the form", or a file."""
    for setting, name in _files(settings) if _ROOTS else ():
        if not _may_be_named(name):
            raise UserError(
                f"{named_by} names a file that was not allowed at the start, {setting} {name}; "
                f"where it is yours, type bothways studio --allow {name}"
            )


def _may_be_named(name: str) -> bool:
    try:
        path = at_home(name).resolve()
    except (OSError, ValueError, RuntimeError):  # a user without a home, a zero byte
        return False
    return any(path.is_relative_to(root) for root in _ROOTS[0])


def _files(value: Any, setting: str = "") -> Iterator[tuple[str, str]]:
    """(setting, path) of all that a setting might open, links and ``..`` included."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in WORDS:
                yield from _files(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _files(part, setting)
    elif isinstance(value, str | Path) and not is_address(str(value)) and not str(value).startswith(BUNDLED):
        last = setting.rpartition(".")[2]
        whole = file_named(str(value)) if last == "data" else str(value)
        named = (whole, *str(value).split(":")[1:])  # what stands behind timm: and the like may be a folder
        yield from ((last, name) for name in named if name and _is_file(last, name))


def _is_file(setting: str, name: str) -> bool:
    parts = Path(name).parts
    if parts and (parts[0] in ("/", "..") or name.startswith("~") or ".." in parts):
        return True
    bare = len(parts) == 1 and not Path(name).suffix
    if (bare and setting not in OF_FILES) or (setting == "data" and name in NAMED):
        return False
    try:
        return Path(name).exists() or Path(name).is_symlink()
    except (OSError, ValueError):  # too long, or a text with a zero byte
        return False
