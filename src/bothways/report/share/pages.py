"""Writes what is shared of a run: ``sheet.png``, or ``sheet-1.png`` and so on, and ``atlas.html``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bothways.opening import opened
from bothways.reading import read_bytes, reason
from bothways.report.sections import Run, fitting
from bothways.report.share.atlas import atlas, has_atlas
from bothways.report.share.sheet import JUDGES, Tile, as_png, sheets
from bothways.report.tables import GAVE_GRADIENT
from bothways.report.template import write_page
from bothways.runs import RunFolder
from bothways.runs.files import replace_file
from bothways.runs.inventory import noted
from bothways.types import UserError

SHEET = re.compile(r"sheet(?:-(\d+))?\.png")
ATLAS = "atlas.html"
OTHERS = (ATLAS, "drawing.gif", "drawing.mp4")


def shared_files(run: Path) -> list[Path]:
    """The files of a run folder that are there to be shown to others, the sheets first and in order."""
    found = {path: SHEET.fullmatch(path.name) for path in sorted(run.iterdir()) if path.is_file()}
    of_sheets = {path: int(match[1] or 0) for path, match in found.items() if match}
    return [*sorted(of_sheets, key=of_sheets.__getitem__), *(path for path in found if path.name in OTHERS)]


def write_shared(folder: RunFolder) -> list[Path]:
    """Write the sheets and the atlas of a run of pictures, as far as it is; nothing for a run of another task.

    Raises UserError for a picture that cannot be read, RunError for a file that cannot be written.
    """
    with fitting(folder):
        return _written(folder)


def _written(folder: RunFolder) -> list[Path]:
    run = Run.read(folder, folder.path.resolve().name)
    if not run.pictures or run.section.chances_of(run.measures, 0, run.pictures[0]) is None:
        return []
    chances = chances_of(run)
    tiles = [_tile(run, *each) for each in zip(range(len(run.pictures)), run.pictures, chances, strict=True)]
    wanted = run.recipe.get("settings", {}).get("share", {}).get("sheet", True)
    found = write_sheets(run, tiles) if wanted else []
    if has_atlas(run):
        write_page(folder.path / ATLAS, atlas(run, tiles))
        found.append(folder.path / ATLAS)
    return found


def write_sheets(run: Run, tiles: Sequence[Tile]) -> list[Path]:
    """Write the contact sheets of a run, in place of earlier ones."""
    judges = [str(judge["judge"]) + _mark(judge) for judge in tiles[0].chances[:JUDGES]]
    found = [as_png(sheet) for sheet in sheets(tiles, run.section.sentence_of(run), judges)]
    names = ["sheet.png"] if len(found) == 1 else [f"sheet-{k}.png" for k in range(1, len(found) + 1)]
    for name, content in zip(names, found, strict=True):
        replace_file(run.folder.path / name, content)
    for old in noted(run.folder.path):
        if SHEET.fullmatch(old.name) and old.parent == run.folder.path and old.name not in names:
            old.unlink(missing_ok=True)
    return [run.folder.path / name for name in names]


def chances_of(run: Run) -> list[list[dict[str, Any]]]:
    """For each picture, what the judges say of it: those that say something, who gave no gradient first."""
    found = [run.section.chances_of(run.measures, k, record) or [] for k, record in enumerate(run.pictures)]
    known = {chance["judge"] for own in found for chance in own if chance["share"] is not None}
    kept = [[chance for chance in own if chance["judge"] in known] for own in found]
    return [sorted(own, key=lambda chance: bool(chance["gave_gradient"])) for own in kept]


def _mark(judge: Mapping[str, Any]) -> str:
    return f" ({GAVE_GRADIENT})" if judge["gave_gradient"] else ""


def _tile(run: Run, place: int, record: Mapping[str, Any], chances: Sequence[Mapping[str, Any]]) -> Tile:
    path, label = run.folder.image_path(record), record.get("label")
    index = record.get("index", place)
    otherwise = f"picture {index}" if label is None else f"class {label}"
    with _opened(path) as picture:
        size = picture.size
    return Tile(partial(_read, path), size, _name(run, record) or f"picture {index}", otherwise, label, chances)


def _name(run: Run, record: Mapping[str, Any]) -> str:
    """The name of the target of a picture; of a channel without its layer, which all have in common."""
    name, layer = str(record.get("class") or ""), run.recipe.get("drawn", {}).get("layer")
    return f"channel {name.removeprefix(f'{layer} ')}" if layer and name.startswith(f"{layer} ") else name


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with opened(read_bytes(path), ("PNG",)) as picture:
            yield picture
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}; restore the picture, or draw the run again") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as a PNG; restore the picture, or draw the run again") from error


def _read(path: Path) -> Image.Image:
    with _opened(path) as picture:
        return picture.convert("RGB")
