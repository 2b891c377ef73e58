"""What several processes make of one run: each writes shares of its own, and the first merges them.

    RUN/shares/NAME/    files of a run folder, but for a recipe: pictures.jsonl, frames.jsonl, images/, state/

One process writes a share at a time, so that no two ever write one file. A share is made of a part of the work, such as
one batch, and not of a process: a run is resumed by any number of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from bothways.reading import is_folder, is_there
from bothways.runs import inventory
from bothways.runs.files import cut_torn_line, inside, json_line, replace_file
from bothways.runs.folder import STATE, RunFolder
from bothways.runs.inventory import FILES, SHARES

PICTURES, FRAMES = "pictures.jsonl", "frames.jsonl"


def name_of(number: int) -> str:
    """The name of the share of a batch, or of another numbered part."""
    return f"{number:05d}"


def share_of(folder: RunFolder, name: str) -> RunFolder:
    """A share of a run, made if it is not there. Raises UserError where a link has its name."""
    share = RunFolder(inside(folder.path, f"{SHARES}/{name}", "a link"))
    share.path.mkdir(parents=True, exist_ok=True)
    inventory.begin(share.path)
    for file in (PICTURES, FRAMES):
        cut_torn_line(share.path / file)
    return share


def shares_of(folder: RunFolder) -> list[RunFolder]:
    """The shares that are there, by name; a link is none."""
    place = folder.path / SHARES
    found = sorted(place.iterdir()) if is_folder(place) and not place.is_symlink() else []
    return [RunFolder(path) for path in found if is_folder(path) and is_there(path / FILES) and not path.is_symlink()]


def states_of(
    folder: RunFolder, schema: Any, name: str | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The checkpoints (tensors, facts) of the run and of its shares, or of the one of this name."""
    for place in (folder, *(share for share in shares_of(folder) if name in (None, share.path.name))):
        if (state := place.load_state(schema)) is not None:
            yield state


def drop_frames_of(folder: RunFolder, batch: int, step: int) -> None:
    """Remove the frames of a batch after a step, which will be made again; those of other batches stay."""
    frames = folder.frames
    kept = [frame for frame in frames if frame["batch"] != batch or frame["step"] <= step]
    if len(kept) < len(frames):
        replace_file(folder.path / FRAMES, b"".join(json_line(frame) for frame in kept))


def absorb(folder: RunFolder) -> None:
    """Move the pictures and frames of all shares into the run, in the order of one process. Their states stay.

    A kill on the way loses nothing: what was moved is found in the run when this is done again.
    """
    pictures = {record["index"]: record for record in folder.pictures}
    frames = {(line["batch"], line["step"]): line for line in folder.frames}
    before = dict(pictures), len(frames)
    shares = shares_of(folder)
    for share in shares:
        for record in share.pictures:
            if pictures.get(record["index"], {"unfinished": True}).get("unfinished"):
                _move(share, folder, record)
                pictures[record["index"]] = record
        frames |= {(line["batch"], line["step"]): line for line in share.frames}
    if pictures != before[0]:
        replace_file(folder.path / PICTURES, b"".join(json_line(line) for _, line in sorted(pictures.items())))
    if len(frames) != before[1]:
        replace_file(folder.path / FRAMES, b"".join(json_line(line) for _, line in sorted(frames.items())))
    for share in shares:
        if is_there(share.path / "state" / STATE):
            for name in (PICTURES, FRAMES):
                (share.path / name).unlink(missing_ok=True)
        else:
            _remove(share)


def remove_shares(folder: RunFolder) -> None:
    """Remove what is left of the shares of a run that is merged."""
    for share in shares_of(folder):
        _remove(share)
    with suppress(OSError):
        (folder.path / SHARES).rmdir()


def _move(share: RunFolder, folder: RunFolder, record: Mapping[str, Any]) -> None:
    for key in ("file", "alpha"):
        if key in record:
            source, target = inside(share.path, record[key]), inside(folder.path, record[key])
            if is_there(source):
                target.parent.mkdir(exist_ok=True)
                inventory.note(target)
                source.replace(target)


def _remove(share: RunFolder) -> None:
    inventory.remove(share.path)
    with suppress(OSError):
        share.path.rmdir()
