"""A table of labels beside pictures: a CSV with a column of file names and one of classes.

    file_name,label        image,class        id,breed         0001.png,cat
    0001.png,cat           a/0001,3           0001,pug         0002.png,dog        (without a header)

A file goes by its path from the table, its path without the suffix, its name, or its name without the suffix.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from bothways.data.readers.decoding import SUFFIXES
from bothways.reading import read_text
from bothways.types import UserError

TABLE_AT_MOST = 256 * 2**20  # bytes of a CSV
FILES = ("file_name", "filename", "file", "filepath", "path", "image", "image_path", "image_id", "img", "id", "name")
LABELS = ("label", "labels", "class", "class_name", "classname", "class_id", "category", "target")


@dataclass(frozen=True)
class Table:
    """labels: {a picture's path from the folder: its class}, of a file."""

    file: Path
    labels: Mapping[PurePath, str]


def table_of(folder: Path) -> Table | None:
    """The first table in a folder that names pictures in it, else the first beside the folder that does; or None."""
    pictures: list[PurePath] = []
    for file in [*sorted(folder.glob("*.csv")), *sorted(folder.parent.glob("*.csv"))]:
        pictures = pictures or [p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES]
        labels = _labels(file, pictures)
        if labels:
            return Table(file, labels)
    return None


def _labels(file: Path, pictures: Sequence[PurePath]) -> dict[PurePath, str]:
    """Empty for a table of something else."""
    named = named_pictures(pictures)
    try:
        opened = io.StringIO(read_text(file, TABLE_AT_MOST).removeprefix("\ufeff"), newline="")
        rows = [[cell.strip() for cell in row] for row in csv.reader(opened) if any(row)]
    except (OSError, UserError, csv.Error):
        return {}
    if not rows:
        return {}
    headless = len(rows[0]) == 2 and rows[0][0] in named  # a picture stands where a header would
    columns = (0, 1) if headless else _columns([name.lower() for name in rows[0]], rows[1:])
    if columns is None:
        return {}
    name, label = columns
    whole = [row for row in rows[0 if headless else 1 :] if len(row) > max(columns) and row[label]]
    return {named[row[name]]: row[label] for row in whole if row[name] in named}


def named_pictures(pictures: Sequence[PurePath]) -> dict[str, PurePath]:
    """{what names a picture: it}: its path, with and without the suffix; its name, where no other picture has that."""
    short = [(name, picture) for picture in pictures for name in {picture.name, picture.stem}]
    count = Counter(name for name, _ in short)
    found = {name: picture for name, picture in short if count[name] == 1}
    for picture in pictures:
        found[picture.with_suffix("").as_posix()] = picture
    return found | {picture.as_posix(): picture for picture in pictures}


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """The places of the file names and of the classes; None where they are not plain."""
    name = next((header.index(known) for known in FILES if known in header), None)
    label = next((header.index(known) for known in LABELS if known in header), None)
    if len(header) == 2:
        name = name if name is not None else 0 if label is None else 1 - label
        if label is None or label == name:  # of another name: classes come more than once, a caption or a width rarely
            label = 1 - name
            distinct = {row[label] for row in rows if len(row) == 2}
            if 2 * len(distinct) > len(rows):
                return None
    return None if name is None or label is None else (name, label)
