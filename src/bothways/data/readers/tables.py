"""A table of labels beside pictures: a CSV with a column of file names and one of classes.

    file_name,label        image,class        id,breed         0001.png,cat
    0001.png,cat           a/0001,3           0001,pug         0002.png,dog        (without a header)

A file goes by its path from the table, its path without the suffix, its name, or its name without the suffix.
``val_annotations.txt`` of Tiny-ImageNet is such a table too, with tabs; ``words.txt`` and the like name WordNet
numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from bothways.data.readers.decoding import SUFFIXES
from bothways.reading import read_text
from bothways.types import UserError, imagenet_names

TABLE_AT_MOST = 256 * 2**20  # bytes of a CSV
FILES = ("file_name", "filename", "file", "filepath", "path", "image", "image_path", "image_id", "img", "id", "name")
LABELS = ("label", "labels", "class", "class_name", "classname", "class_id", "category", "target")
ANNOTATIONS = "val_annotations.txt"
WNID = re.compile(r"n\d{8}")
WORDS = {"words.txt": "\t", "synset_words.txt": " ", "LOC_synset_mapping.txt": " "}  # a number, this, its words


@dataclass(frozen=True)
class Table:
    """labels: {a picture's path from the folder: its class}, of a file."""

    file: Path
    labels: Mapping[PurePath, str]


def table_of(folder: Path) -> Table | None:
    """The first table in a folder that names pictures in it, else the first beside the folder that does; or None."""
    if (folder / ANNOTATIONS).is_file():
        return Table(folder / ANNOTATIONS, _annotated(folder / ANNOTATIONS, folder))
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
    files = [PurePath(row[name]).as_posix() for row in whole]  # "./a.png" is a.png
    return {named[file]: row[label] for file, row in zip(files, whole, strict=True) if file in named}


def named_pictures(pictures: Sequence[PurePath]) -> dict[str, PurePath]:
    """{what names a picture: it}: its path; its path without the suffix and its name, where no other picture has it."""
    short = [(name, picture) for picture in pictures for name in {picture.name, picture.stem}]
    count = Counter(name for name, _ in short)
    found = {name: picture for name, picture in short if count[name] == 1}
    bare = [(picture.with_suffix("").as_posix(), picture) for picture in pictures]
    alike = Counter(name for name, _ in bare)
    found |= {name: picture for name, picture in bare if alike[name] == 1}
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


# ---- WordNet numbers -----------------------------------------------------------------------------------------------


def _annotated(file: Path, folder: Path) -> dict[PurePath, str]:
    """The table of Tiny-ImageNet's validation pictures. Raises UserError, with the line, for what is no such table."""
    named = {p.name: p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES}
    found: dict[PurePath, str] = {}
    for number, line in enumerate(read_text(file, TABLE_AT_MOST).splitlines(), start=1):
        cells = line.split("\t")
        if len(cells) < 2 or not WNID.fullmatch(cells[1]):
            raise UserError(f"{file} line {number}: {line[:60]!r} is not NAME, a tab, a number such as n01443537")
        if cells[0] not in named:
            raise UserError(f"{file} line {number}: picture {cells[0][:60]!r} is not below {folder}; restore it")
        if found.setdefault(named[cells[0]], cells[1]) != cells[1]:
            raise UserError(f"{file} line {number}: picture {cells[0]!r} has two classes; restore the file")
    return found


def named_classes(classes: tuple[str, ...], *folders: Path) -> tuple[str, ...]:
    """The names of classes that are WordNet numbers: "tench, Tinca tinca, n01440764"; any others as they are.

    folders: where a file of words may lie, which goes before the words of ImageNet-1k. All 1,000 classes of that have
    its own names. A number that nothing names stands for itself.
    """
    if not classes or not all(map(WNID.fullmatch, classes)):
        return classes
    if classes == tuple(_of_imagenet()):
        return imagenet_names()
    words = _of_imagenet() | _words(classes, folders)
    return tuple(f"{words[wnid]}, {wnid}" if wnid in words else wnid for wnid in classes)


@cache
def _of_imagenet() -> dict[str, str]:
    numbers = Path(__file__).with_name("wnids.txt").read_text("utf-8").split()
    return dict(zip(numbers, imagenet_names(), strict=True))


def _words(classes: Iterable[str], folders: Iterable[Path]) -> dict[str, str]:
    """{number: words} of the first file that is there. Raises UserError for a line without words."""
    wanted = set(classes)
    file, mark = next(
        ((folder / name, mark) for folder in folders for name, mark in WORDS.items() if (folder / name).is_file()),
        (None, ""),
    )
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(file, TABLE_AT_MOST).splitlines() if file else (), start=1):
        wnid, _, words = line.partition(mark)
        if wnid.strip() in wanted:
            if not words.strip():
                raise UserError(f"{file} line {number}: {line[:60]!r} has no words behind the number")
            found[wnid.strip()] = words.strip()
    return found
