"""Pictures in a folder: of a class in each sub-folder, with a table of labels beside them, or without labels.

    FOLDER/CLASS/..png      FOLDER/..png and FOLDER/NAME.csv      FOLDER/..png        each also below FOLDER/SPLIT

Classes go by name over all splits, so that a label means the same in each. A split whose pictures all lie in one folder
that is no class of the others, as the test pictures of Tiny-ImageNet do, has no labels. Tiny-ImageNet and ImageNet
are read as they ship: classes that are WordNet numbers have their words for names (``tables.named_classes``).
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bothways.data.readers.decoding import SUFFIXES
from bothways.data.readers.entries import SPLITS, SplitEntries, entries_of, evenly_spaced, in_order
from bothways.data.readers.tables import Table, named_classes, table_of
from bothways.data.rows.held import FileRows
from bothways.reading import as_text
from bothways.types import UserError

COMPANIONS = {"", ".txt", ".md", ".rst", ".html", ".pdf", ".ini", ".db"}  # hold neither pictures nor labels


def split_folder(path: Path, split: str) -> Path:
    """PATH/SPLIT where PATH holds splits, else PATH itself. Raises UserError where it holds others alone."""
    splits = _splits(path)
    if split in splits:
        return path / split
    if splits & {"train", "test"}:  # else the splits would be taken for classes
        raise UserError(f"data {str(path)!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
    return path


def from_folder(path: Path, split: str, limit: int | None) -> SplitEntries:
    """The pictures of a split. Warns of files that are passed over, and of pictures without a label beside others.

    Raises UserError as ``split_folder`` does.
    """
    own = Labelled(split_folder(path, split))
    others = [Labelled(path / name) for name in sorted(_splits(path) - {split})] if own.folder != path else []
    every = [own, *others]
    known = frozenset[str]().union(*(part.classes for part in every if not part.alone))
    labelled = [part for part in every if not (known and part.alone and not part.classes & known)]
    classes, unlabelled = in_order(name for part in labelled for name in part.classes), own not in labelled
    number = {name: place for place, name in enumerate(classes)}
    pictures = [(file, -1 if unlabelled or name is None else number[name]) for file, name in own.pictures()]
    chosen = [pictures[place] for place in evenly_spaced(len(pictures), limit)]
    files = tuple(str(file.relative_to(own.folder)) for file, _ in chosen)
    rows = FileRows(own.folder, files, np.array([label for _, label in chosen], np.int64))
    for line in own.passed_over():
        warnings.warn(f"data {str(path)!r}: {line}", stacklevel=5)
    without = sum(label < 0 for _, label in pictures)
    if classes and without:
        which = f"the pictures of split {split!r}" if without == len(pictures) else f"{without} of {len(pictures)}"
        warnings.warn(f"data {str(path)!r}: {which} have no label", stacklevel=5)
    named = named_classes(classes, path, path.parent)
    return SplitEntries(named, len(chosen), entries_of(rows, range(len(chosen))), rows=lambda stream: rows)


@dataclass(frozen=True)
class Labelled:
    """The pictures of a folder, of one split. table: that of their labels, if any; folders: else, those of classes."""

    folder: Path

    @cached_property
    def found(self) -> Table | None:
        return table_of(self.folder)

    @cached_property
    def table(self) -> Table | None:
        """``found``, unless it lies beside the folder and all pictures lie in folders of classes.

        What lies beside may be anything, such as the predictions of a model for these pictures.
        """
        outside = self.found is not None and self.found.file.parent != self.folder
        return None if outside and self.in_classes else self.found

    @cached_property
    def in_classes(self) -> bool:
        """Whether all pictures lie in folders, of which there are two or more."""
        return len(self.folders) > 1 and not any(is_picture(file) for file in self.folder.iterdir())

    @cached_property
    def folders(self) -> tuple[str, ...]:
        return tuple(sorted(folder.name for folder in _visible_folders(self.folder)))

    @cached_property
    def classes(self) -> frozenset[str]:
        return frozenset(map(as_text, self.folders) if self.table is None else self.table.labels.values())

    @property
    def alone(self) -> bool:
        """Whether one folder holds all of them, which may be a class or none."""
        return self.table is None and len(self.folders) == 1

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """{folder of a class: the files below it}, and under "" those beside; all under "" where none is a class."""
        if self.table is not None or not self.folders:
            return {"": _files(self.folder)}
        beside = sorted(file for file in self.folder.iterdir() if not file.is_dir())
        return {**{name: _files(self.folder / name) for name in in_order(self.folders)}, "": beside}

    def pictures(self) -> Iterator[tuple[Path, str | None]]:
        """Each with the name of its class, in the order of the classes."""
        for name, files in self.files.items():
            for file in filter(is_picture, files):
                if self.table is not None:
                    yield file, self.table.labels.get(file.relative_to(self.folder))
                elif name or len(self.files) == 1:
                    yield file, as_text(name) or None

    def passed_over(self) -> Iterator[str]:
        """A line of files that are neither pictures nor labels, one of pictures beside the folders of classes, and one
        of a table with other labels than those of the folders.
        """
        used = None if self.table is None else self.table.file
        yield from other_files(self.folder, [f for files in self.files.values() for f in files if f != used])
        loose = [file for file in self.files[""] if is_picture(file)] if len(self.files) > 1 else []
        if loose:
            yield f"{len(loose)} pictures beside the folders of classes are passed over, the first: {loose[0].name}"
        other = self.found if self.table is None else None
        if other is not None and any(file.parts[0] != label for file, label in other.labels.items()):
            yield (
                f"labels are those of its {len(self.folders)} folders; {other.file} names pictures of it too: "
                "move that into the folder to take its labels"
            )


def is_picture(file: Path) -> bool:
    """By its suffix."""
    return file.suffix.lower() in SUFFIXES


def other_files(folder: Path, files: Sequence[Path]) -> Iterator[str]:
    """A line of those that are no pictures and do not go with pictures, such as texts; hidden ones aside."""
    other = [file for file in files if file.suffix.lower() not in SUFFIXES | COMPANIONS]
    other = [file for file in other if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if other:
        kinds = Counter(file.suffix.lower() for file in other)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
        yield f"{len(other)} files are passed over ({named}), the first: {min(other).relative_to(folder)}"


def _splits(path: Path) -> set[str]:
    """The names of the folders that are splits: they hold folders or a table, or all have the names of splits."""
    folders = _visible_folders(path)
    named = {folder.name for folder in folders}
    if len(named) > 1 and named <= SPLITS:
        return named
    return {folder.name for folder in folders if _visible_folders(folder) or any(folder.glob("*.csv"))}


def _visible_folders(path: Path) -> list[Path]:
    return [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    """All below a folder, without asking the disk what each is."""
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)
