"""What every source of pictures gives: encoded pictures with their labels, one by one; and the order of classes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from bothways.data.readers.latents import LatentFacts
from bothways.reading import read_bytes
from bothways.types import UserError

Entry = tuple[str, bytes, int]  # a picture's name, its encoded bytes, its label or -1
Entries = Iterator[Entry]
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test"}  # the usual names


class Rows(Protocol):
    """Pictures that can be read in any order, by several processes. It can be sent to another process.

    labels: (N,) int64, -1 for unknown. begins: the rows with which a shard begins, ascending from 0. near: the rows on
    either side of the present one that may be read again soon, for a reader that holds some.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def begins(self) -> tuple[int, ...]: ...

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        """(name, encoded bytes) of each row, in the order in which they are given; no bytes where it is damaged."""


@dataclass(frozen=True)
class SplitEntries:
    """The images of a split. classes: names; count: of images; levels: number of values that a channel can take.

    rows: (stream) -> the same pictures in any order, or None for a small source. stream: whether they are read nearly
    in their order, so that nothing needs to be unpacked.
    latents: what they are where the entries are no pictures but latents of an autoencoder (readers/latents.py).
    """

    classes: tuple[str, ...]
    count: int
    entries: Entries
    levels: int = 256
    rows: Callable[[bool], Rows] | None = None
    latents: LatentFacts | None = None


def entries_of(rows: Rows, chosen: Sequence[int]) -> Entries:
    """Chosen rows one by one."""
    labels = rows.labels
    return ((name, data, int(labels[row])) for row, (name, data) in zip(chosen, rows.read(chosen), strict=True))


def bytes_of(file: Path) -> bytes:
    """A file's bytes; none where it cannot be opened, so that it is named and skipped with the damaged ones.

    So are a pipe and a device, which are not opened, and what is too large to be a picture.
    """
    try:
        return read_bytes(file)
    except (OSError, UserError):
        return b""


def as_png(pixels: np.ndarray) -> bytes:
    """(H,W) or (H,W,3) uint8 as an encoded picture."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` evenly spaced indices of 0..count-1."""
    if limit is None or limit >= count:
        return list(range(count))
    return [round(i * (count - 1) / max(1, limit - 1)) for i in range(limit)]


def counted(labels: Iterable[int]) -> tuple[tuple[str, ...], dict[int, int]]:
    """The names of classes that are numbers alone, and {label: its place among them}; a negative one is unknown.

    None are needed where the labels are all of 0..K-1; those with gaps go by their numbers.
    """
    every = sorted({label for label in labels if label >= 0})
    names = () if every == list(range(len(every))) else tuple(map(str, every))
    return names, {label: place for place, label in enumerate(every)}


def numbers_of(names: Sequence[str]) -> tuple[int, ...] | None:
    """The numbers that names of classes are, where all of them are whole numbers and no two the same; else None."""
    if not names or not all(name.isascii() and name.isdecimal() for name in names):
        return None
    numbers = tuple(map(int, names))
    return numbers if len(set(numbers)) == len(numbers) else None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes, each once, in the order in which they are counted: by number where all are, else by text."""
    found = sorted(set(names))
    numbers = numbers_of(found)
    return tuple(found) if numbers is None else tuple(name for _, name in sorted(zip(numbers, found, strict=True)))
