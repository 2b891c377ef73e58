"""Which files of a folder are a run's own, and which process writes it.

    files.txt   the name of every file that the run wrote, one a line, noted before the file is there
    files-2.txt the same of the process of rank 2, where several write one run
    .lock       locked by the process that writes; the system unlocks it when that process ends, however it ends

So --overwrite removes what the run wrote and nothing else, and two processes cannot mix their files.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from filelock import FileLock, Timeout

from bothways.processes.launched import own_rank
from bothways.reading import is_folder, read_text
from bothways.types import UserError

FILES, LOCK = "files.txt", ".lock"
OTHERS = "files-*.txt"  # the lists of the other processes of a run
SHARES = "shares"  # the folder of what several processes made and the first has not merged yet
RECIPE = "recipe.toml"  # what makes a folder a run folder
PARTIAL = ".partial"  # suffix of a temporary file; leftovers of a killed process are ignored
DEEPEST = 2  # folders between a run folder and a file of it


def check_place(folder: Path, *, overwrite: bool = False, resume: bool = False) -> None:
    """Raise UserError if a run cannot be written there, whatever its settings. Nothing is written."""
    begins(folder, overwrite=overwrite, resume=resume)
    if (folder / LOCK).exists():
        with contextlib.suppress(OSError):
            lock(folder).release()
    if blocked := next((place for place in folder.absolute().parents if place.is_file()), None):
        raise UserError(f"{folder}: {blocked} is a file; choose a folder that can be written")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: permission denied; choose a folder that can be written")


def begins(folder: Path, *, overwrite: bool, resume: bool) -> bool:
    """Whether to begin a new run instead of resuming one. Raises UserError if the place must not be used."""
    if overwrite and resume:
        raise UserError(f"{folder}: --overwrite and --resume contradict each other; type one of them")
    if not is_folder(folder) and folder.exists():
        raise UserError(f"{folder}: a file is in the way; type another folder")
    if _is_empty(folder):
        if resume:
            raise UserError(f"{folder}: no run is there to resume; type the command without --resume")
        return True
    if not (overwrite or resume):
        raise UserError(f"{folder}: is not empty; type --resume to continue, --overwrite to start again")
    for name in (RECIPE, *([FILES] if overwrite else [])):
        if not _is_plain(folder / name):
            raise UserError(f"{folder}: is not empty and not a run folder (no {name}); type another folder")
    return overwrite


def _is_empty(folder: Path) -> bool:
    """Whether the folder holds nothing, or only what a run leaves that was killed before it began."""
    return not folder.exists() or all(e.name.endswith(PARTIAL) or e.name in (FILES, LOCK) for e in folder.iterdir())


def begin(folder: Path) -> None:
    """An empty list of files; from now on every file that is written in the folder is noted in it."""
    check_own(folder / FILES)
    (folder / FILES).touch()


def note(file: Path) -> None:
    """Note that the run in whose folder the file lies writes it; a file elsewhere is not noted."""
    own = f"files-{own_rank()}.txt" if own_rank() else FILES  # no two processes append to one file
    for folder in list(file.parents)[:DEEPEST]:
        if _is_plain(folder / FILES):
            check_own(folder / own)
            with (folder / own).open("ab+") as names:
                _end_whole(names)
                names.write(f"{file.relative_to(folder).as_posix()}\n".encode())
            return


def _end_whole(names: BinaryIO) -> None:
    """Take away the half of a name that a killed process left: its file was not there yet, and the next name would
    run on from it.
    """
    if names.seek(0, os.SEEK_END):
        names.seek(-1, os.SEEK_END)
        if names.read() != b"\n":
            names.seek(0)
            names.truncate(names.read().rfind(b"\n") + 1)


def noted(folder: Path) -> list[Path]:
    """The files that the run wrote and that are still there.

    A link is left out, and what only a link leads to: it belongs to somebody else.
    """
    try:
        lists = [folder / FILES, *sorted(filter(_is_plain, folder.glob(OTHERS)))]
        names = dict.fromkeys(name for list_ in lists for name in read_text(list_).splitlines())
    except (OSError, UserError):
        return []
    return [folder / name for name in names if _is_own(folder, PurePosixPath(name))]


def _is_plain(file: Path) -> bool:
    """Whether it is an ordinary file, through no link."""
    return file.is_file() and not file.is_symlink()


def check_own(file: Path) -> None:
    """Raise UserError where something else than an ordinary file has the name of one that is written in its place."""
    if (file.exists() or file.is_symlink()) and not _is_plain(file):
        raise UserError(f"{file}: is a link, a folder, a pipe or a device, not the file of a run; remove it")


def _is_own(folder: Path, name: PurePosixPath) -> bool:
    file, below = folder / name, not name.is_absolute() and ".." not in name.parts
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no name of a file
        return below and file.parent.resolve() == folder.resolve() / name.parent and _is_plain(file)
    return False


def remove(folder: Path) -> None:
    """Remove every noted file and the folders that are now empty, the recipe at the end, then the list.

    So are the shares of several processes, at first. A kill on the way leaves a folder that can be overwritten again.
    """
    for share in sorted((folder / SHARES).glob("*")) if is_folder(folder / SHARES) else ():
        if _is_plain(share / FILES) and not share.is_symlink() and not share.parent.is_symlink():
            remove(share)
            with contextlib.suppress(OSError):
                share.rmdir()
    files = noted(folder)
    for file in files:
        if file != folder / RECIPE:
            file.unlink(missing_ok=True)
    for place in {file.parent for file in files} - {folder} | {folder / name for name in ("images", "state", SHARES)}:
        with contextlib.suppress(OSError):  # not empty: it holds something of the user's
            if not place.is_symlink():
                place.rmdir()
    recipe = [folder / RECIPE] if folder / RECIPE in files else []
    for last in (*filter(_is_plain, folder.glob(OTHERS)), *recipe, folder / FILES):
        last.unlink(missing_ok=True)


def lock(folder: Path) -> FileLock:
    """The folder, locked for this process until the lock is released. Raises UserError where another one writes it."""
    check_own(folder / LOCK)  # it would be emptied
    held = FileLock(folder / LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{folder}: another run writes there; wait until it ends, or type another folder") from error
    return held
