"""CIFAR-10 and CIFAR-100 as they are distributed, in their binary version.

    cifar-10-batches-bin    data_batch_1.bin, .., test_batch.bin     a byte of the class, then 3,072 of the pixels
    cifar-100-binary        train.bin, test.bin                      the coarse and the fine class, then the same
    batches.meta.txt; fine_label_names.txt, coarse_label_names.txt   a name a line

The classes of CIFAR-100 are the fine ones; ``FOLDER:coarse`` takes the 20 others. The version for Python is pickled,
which can run code, so it is never read.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bothways.data.readers.entries import SplitEntries, entries_of, evenly_spaced
from bothways.data.rows.held import PixelRows
from bothways.reading import check_file, read_text
from bothways.types import UserError

SIDE = 32
PIXELS = 3 * SIDE**2
ROWS_AT_MOST = 10_000_000  # of a file; those published have 10,000 or 50,000
NAMES_AT_MOST = 2**20  # bytes of a file of names
PICKLED = {"batches.meta": "cifar-10-binary.tar.gz", "data_batch_1": "cifar-10-binary.tar.gz"}
PICKLED_100 = ("meta", "train", "test")


@dataclass(frozen=True)
class Version:
    """files: those of each split; names: the file of names of each kind of label, in the order of their bytes."""

    files: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str]


TEN = Version(
    {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
    {"": "batches.meta.txt"},
)
HUNDRED = Version(
    {"train": ("train.bin",), "test": ("test.bin",)},
    {"coarse": "coarse_label_names.txt", "fine": "fine_label_names.txt"},
)


def version_of(folder: Path) -> Version | None:
    """Which of the two a folder holds; None for neither. Raises UserError for the pickled version."""
    for version in (TEN, HUNDRED):
        if any((folder / name).is_file() for names in version.files.values() for name in names):
            return version
    archive = next((archive for name, archive in PICKLED.items() if (folder / name).is_file()), "")
    if not archive and all((folder / name).is_file() for name in PICKLED_100):
        archive = "cifar-100-binary.tar.gz"
    if archive:
        raise UserError(
            f"data {str(folder)!r} is the version of CIFAR for Python, whose pickles can run code and are not read; "
            f"download {archive} in its place, unpack it, and type its folder"
        )
    return None


def from_cifar(folder: Path, version: Version, split: str, limit: int | None, kind: str = "") -> SplitEntries:
    """The pictures of a split. kind: of CIFAR-100's labels: fine, coarse, or "" for fine.

    Raises UserError for a missing file or split, a size that is no whole number of pictures, and an unknown class.
    """
    kinds = list(version.names)
    if kind not in ("", *kinds):
        told = "fine or coarse" if len(kinds) > 1 else "the folder alone: CIFAR-10 has one kind of label"
        raise UserError(f"data '{folder}:{kind}': type {told}")
    if split not in version.files:
        raise UserError(f"data {str(folder)!r} has no split {split!r}; it has {', '.join(sorted(version.files))}")
    kind = kind or kinds[-1]
    classes = _names(folder / version.names[kind])
    stride, column = len(kinds) + PIXELS, kinds.index(kind)
    files = [folder / name for name in version.files[split]]
    counts = [_count(file, stride) for file in files]
    labels = np.concatenate(
        [_labels(file, stride, count, column, classes) for file, count in zip(files, counts, strict=True)]
    )
    rows = PixelRows(tuple(zip(files, counts, strict=True)), labels, stride, len(kinds), SIDE)
    chosen = evenly_spaced(len(labels), limit)
    return SplitEntries(classes, len(chosen), entries_of(rows, chosen), rows=lambda stream: rows)


def _names(file: Path) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in read_text(file, NAMES_AT_MOST).splitlines() if line.strip())
    except FileNotFoundError as error:
        raise UserError(f"data {str(file)!r} is missing, which names the classes; unpack the archive again") from error
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"data {str(file)!r} names {len(set(names))} classes in {len(names)} lines; unpack the archive again"
        )
    return names


def _count(file: Path, stride: int) -> int:
    try:
        check_file(file)
    except FileNotFoundError as error:
        raise UserError(f"data {str(file)!r} is missing; unpack the archive again") from error
    count, left = divmod(file.stat().st_size, stride)
    if left or not 0 < count <= ROWS_AT_MOST:
        raise UserError(
            f"data {str(file)!r} has {file.stat().st_size:,} bytes, which are no whole number of pictures of "
            f"{stride:,}; unpack the archive again"
        )
    return count


def _labels(file: Path, stride: int, count: int, column: int, classes: tuple[str, ...]) -> np.ndarray:
    labels = np.array(np.memmap(file, np.uint8, "r", shape=(count, stride))[:, column], np.int64)
    if int(labels.max()) >= len(classes):
        row = int((labels >= len(classes)).argmax())
        raise UserError(
            f"data {str(file)!r}: row {row} is of class {labels[row]}, and {len(classes)} are named; unpack the "
            "archive again"
        )
    return labels
