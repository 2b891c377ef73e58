"""Batches of pictures by number, read and decoded when they are needed: what ``data.loader.ahead`` makes ahead.

    batch k = pictures k B .. min((k + 1) B, N) - 1, but for those that cannot be read, which are named

So a batch is the same whoever asks for it, after a resume too, and no more than one is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bothways.data.corrupted import Picture, as_pixels, clean_pictures, unread
from bothways.data.sources import ImageSet
from bothways.types import UserError


class Decoded(NamedTuple):
    """images (n,3,H,W) uint8, and of each its place in the split, its name and its label (-1: unknown).

    skipped: {the name of one that cannot be read: why}.
    """

    images: Tensor
    places: list[int]
    names: list[str]
    labels: list[int]
    skipped: dict[str, str]


@dataclass
class Reader:
    """step -> ``Decoded``, of at most ``batch`` pictures of a split, of one size.

    address, split, limit: as for ``load_images``. size: (height, width) in pixels; the shorter side of each picture is
    resized to it and the centre cut out. Asked in order it reads every picture once; what lies between two steps is
    read over without being decoded, so that several workers may share the steps.
    Raises UserError where the data has fewer pictures than before.
    """

    address: str | Path | ImageSet
    split: str
    limit: int | None
    size: tuple[int, int]
    batch: int
    _open: Iterator[Picture] | None = field(default=None, repr=False)
    _next: int = 0

    def __call__(self, step: int) -> Decoded:
        if self._open is None or step < self._next:
            self._open, self._next = clean_pictures(self.address, self.split, self.limit)[2], 0
        over = (step - self._next) * self.batch
        pictures = list(islice(self._open, over, over + self.batch))
        self._next = step + 1
        if not pictures:
            raise UserError(f"data {str(self.address)!r} has no picture {step * self.batch + 1} any more; restore it")
        images: list[np.ndarray] = []
        read: list[Picture] = []
        skipped: dict[str, str] = {}
        for picture in pictures:
            try:
                images.append(as_pixels(picture.content, self.size))
                read.append(picture)
            except (OSError, ValueError) as error:
                skipped[picture.name] = unread(error)
        stacked = np.stack(images) if images else np.zeros((0, *self.size, 3), np.uint8)
        return Decoded(
            torch.from_numpy(stacked).permute(0, 3, 1, 2),
            [picture.place for picture in read],
            [picture.name for picture in read],
            [picture.label for picture in read],
            skipped,
        )
