"""Rows of pictures that lie in files of their own, or at equal distances in a file of bytes.

FileRows      a file a picture
PixelRows     a picture of (H, W) at offset + row * stride, planes of red, green and blue (CIFAR's binary files)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bothways.data.readers.entries import as_png, bytes_of
from bothways.reading import as_text
from bothways.types import UserError


@dataclass(frozen=True)
class FileRows:
    """Rows of files. files: paths below a folder."""

    folder: Path
    files: tuple[str, ...]
    labels: np.ndarray
    begins: tuple[int, ...] = (0,)

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        for row in rows:
            yield as_text(self.files[row]), bytes_of(self.folder / self.files[row])


@dataclass(frozen=True)
class PixelRows:
    """Rows of pixels without a code. files: with the number of pictures in each, of ``stride`` bytes."""

    files: tuple[tuple[Path, int], ...]
    labels: np.ndarray
    stride: int
    offset: int
    side: int

    @property
    def begins(self) -> tuple[int, ...]:
        counts = [0, *(count for _, count in self.files)]
        return tuple(np.cumsum(counts)[:-1].tolist())

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        begins, size = self.begins, 3 * self.side**2
        for row in rows:
            shard = bisect_right(begins, row) - 1
            path, place = self.files[shard][0], row - begins[shard]
            content = read_at(path, place * self.stride + self.offset, size)
            if len(content) < size:
                raise UserError(f"data {str(path)!r} is damaged: it ends before row {place}; download it again")
            pixels = np.frombuffer(content, np.uint8).reshape(3, self.side, self.side)
            yield f"{path.name} row {place}", as_png(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def read_at(path: Path, offset: int, size: int) -> bytes:
    """The bytes of a file from an offset on. Raises UserError where it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
            while len(content) < size and (more := file.read(size - len(content))):
                content += more
            return content
    except OSError as error:
        raise UserError(f"data {str(path)!r}: {(error.strerror or str(error)).lower()}") from error
