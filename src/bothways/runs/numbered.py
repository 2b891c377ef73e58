"""The folders of runs without a name of their own: runs/COMMAND-001, -002, ..., and runs/latest, a link to the newest.

A folder is made the moment its number is chosen, so that two processes never get the same.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bothways.runs.files import reason
from bothways.types import UserError

RUNS = Path("runs")
LATEST = "latest"


def next_name(root: Path, kind: str, taken: Iterable[str] = ()) -> str:
    """KIND-NNN with the number after the greatest there is in a folder. taken: further names in use."""
    return f"{kind}-{1 + max(_numbers(root, kind, taken), default=0):03d}"


def next_folder(root: Path, kind: str) -> Path:
    """Make ROOT/KIND-NNN, the next number, and return it. Raises UserError if it cannot be made."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            folder = root / next_name(root, kind)
            with contextlib.suppress(FileExistsError):  # another process was faster
                folder.mkdir()
                return folder
    except OSError as error:
        raise UserError(f"{root}: {reason(error)}; type --out FOLDER, one that can be written") from error


def newest_folder(root: Path, kind: str) -> Path | None:
    """The run ROOT/KIND-NNN of the greatest number; None if there is none."""
    number = max(_numbers(root, kind), default=0)
    return root / f"{kind}-{number:03d}" if number else None


def link_latest(folder: Path) -> None:
    """Make runs/latest a link to a run folder in runs; nothing for a folder elsewhere.

    Warns where something else has that name: a folder, a file, or a link that leads out of runs.
    """
    link = RUNS / LATEST
    if folder.absolute().parent != RUNS.absolute():
        return
    if (link.exists() or link.is_symlink()) and not _is_ours(link):
        warnings.warn(f"{link} is not a link to a run in {RUNS}, so it stays as it is", stacklevel=2)
        return
    partial = RUNS / f".{LATEST}.{os.getpid()}"
    with contextlib.suppress(OSError):  # a file system without links has none
        partial.unlink(missing_ok=True)
        partial.symlink_to(folder.name, target_is_directory=True)
        partial.replace(link)


def behind_latest(value: Any) -> Any:
    """The path of the run that runs/latest leads to now, in place of runs/latest; any other value as it is."""
    link = RUNS / LATEST
    if not isinstance(value, str | Path) or not _is_ours(link) or not Path(value).is_relative_to(link):
        return value
    return str(RUNS / link.readlink() / Path(value).relative_to(link))


def _is_ours(link: Path) -> bool:
    """Whether it is a link to a name beside it, as ``link_latest`` makes."""
    return link.is_symlink() and len(link.readlink().parts) == 1


def _numbers(root: Path, kind: str, taken: Iterable[str] = ()) -> list[int]:
    """The numbers of the names KIND-NNN."""
    names = [*(path.name for path in root.glob(f"{kind}-*")), *taken]
    parts = [name.rpartition("-") for name in names]
    return [int(number) for own, _, number in parts if own == kind and number.isdecimal()]
