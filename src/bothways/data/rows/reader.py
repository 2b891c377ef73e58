"""Batches of a split by index, read and decoded on demand, for ``data.loader.prefetch``.

    batch k = pictures k B .. min((k + 1) B, N) - 1, without the unreadable ones, which are reported

So a batch does not depend on the worker or on a resume, and at most one is held in memory.
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

from bothways.data.corrupted import Picture, as_pixels, clean_pictures, unreadable_because
from bothways.data.readers.fit import Size, height_width
from bothways.data.rows.latents import latent_of
from bothways.data.sources import ImageSet
from bothways.types import UserError


class Decoded(NamedTuple):
    """A decoded batch: images (n,3,H,W) uint8, and their indices in the split, names and labels (-1: unknown).

    skipped: {name of an unreadable image: reason}.
    """

    images: Tensor
    places: list[int]
    names: list[str]
    labels: list[int]
    skipped: dict[str, str]


@dataclass
class Reader:
    """Batch function step -> ``Decoded``, of at most ``batch`` images of a split, all of one size.

    latents: the shape of those that are read in place of pictures, as float32 (n,C,h,w).
    address, split, limit, size: as for ``load_images``. Asked in order it reads every picture once; what lies between
    two steps is read over without being decoded, so that several workers may share the steps.
    Raises UserError where the data has fewer pictures than before.
    """

    address: str | Path | ImageSet
    split: str
    limit: int | None
    size: Size
    batch: int
    latents: tuple[int, int, int] | None = None
    _open: Iterator[Picture] | None = field(default=None, repr=False)
    _next: int = 0

    def __call__(self, step: int) -> Decoded:
        if self._open is None or step < self._next:
            found = clean_pictures(self.address, self.split, self.limit, self.latents is not None)
            self._open, self._next = found[2], 0
        over = (step - self._next) * self.batch
        pictures = list(islice(self._open, over, over + self.batch))
        self._next = step + 1
        if not pictures:
            raise UserError(f"data {str(self.address)!r} no longer has picture {step * self.batch + 1}; restore it")
        images: list[np.ndarray] = []
        read: list[Picture] = []
        skipped: dict[str, str] = {}
        for picture in pictures:
            try:
                images.append(self._decoded(picture.content))
                read.append(picture)
            except (OSError, ValueError) as error:
                skipped[picture.name] = unreadable_because(error)
        return Decoded(
            self._stacked(images),
            [picture.place for picture in read],
            [picture.name for picture in read],
            [picture.label for picture in read],
            skipped,
        )

    def _decoded(self, content: bytes | Path | np.ndarray) -> np.ndarray:
        if self.latents is None:
            return as_pixels(content, self.size)
        assert isinstance(content, bytes)
        return latent_of(content, self.latents)

    def _stacked(self, images: list[np.ndarray]) -> Tensor:
        if self.latents is not None:
            return torch.from_numpy(np.stack(images) if images else np.zeros((0, *self.latents), np.float32))
        stacked = np.stack(images) if images else np.zeros((0, *height_width(self.size), 3), np.uint8)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)
