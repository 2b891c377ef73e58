"""Pictures that stay where they are stored and are decoded as a batch needs them, in the processes that make batches.

What is held is an index: where each picture lies, and its label. A batch is a function of (seed, step), with the
pictures and the order of the same source in memory, bit for bit. Whether a picture can be read is seen when its turn
comes: in place of one that cannot, the next of the epoch's order after the batch is taken, so that a batch has its size
and still is a function of (seed, step). In memory such pictures are left out before the first order is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.brief import shown
from bothways.data.readers.decoding import decode_image
from bothways.data.readers.entries import Entries, Entry, Rows, SplitEntries, entries_of
from bothways.data.readers.fit import Size, check_size, height_width
from bothways.data.rows.held import FileRows, PixelRows
from bothways.data.rows.latents import LatentFacts
from bothways.data.rows.order import shuffled, streamed
from bothways.data.rows.places import STREAM
from bothways.data.rows.skipping import note, noting
from bothways.data.sources import ImageSet, find_images, load_images, read_all
from bothways.types import UserError

IN_MEMORY = 2.0  # GB of decoded pictures up to which a source is held in memory
BUFFER = 2048  # pictures of the shuffle buffer of a stream
AT_ONCE = 256  # pictures that are decoded at a time where all are looked at


@dataclass(frozen=True)
class StoredSet:
    """Labelled pictures on the disk or in the network, taken in training wherever an ``ImageSet`` is.

    rows: where they lie. places: (N,), the rows that belong to the set. size: as for ``load_images``. shape: (height,
    width) of what is decoded. levels: as of an ``ImageSet``. buffer: of a stream, 0 for an order of all.
    """

    rows: Rows
    places: Tensor
    size: Size | None
    shape: tuple[int, int]
    classes: tuple[str, ...]
    address: str
    levels: int = 256
    buffer: int = 0
    skipped: tuple[str, ...] = ()
    _orders: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.places)

    def __str__(self) -> str:
        return self.address

    def __getstate__(self) -> dict[str, Any]:  # what another process is sent
        return {**self.__dict__, "_orders": {}}

    @property
    def are_latents(self) -> bool:
        """Latents are held in memory."""
        return False

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64, -1 for unknown."""
        return torch.from_numpy(self.rows.labels)[self.places]

    @cached_property
    def channels(self) -> int:
        """1 if every picture is grey, else 3. Pictures are decoded until one has a colour."""
        with noting():
            grey = all(bool((part == part[:, :1]).all()) for part in self.parts())
        return 1 if grey else 3

    def subset(self, indices: Tensor) -> StoredSet:
        return replace(self, places=self.places[indices], _orders={})

    def loaded(self) -> ImageSet:
        """The same in memory, without those that cannot be read. Raises UserError where there is no room."""
        entries = entries_of(self.rows, self.places.tolist())
        found = SplitEntries(self.classes, len(self), entries, self.levels)
        made = read_all(found, self.size or self.shape, self.address, limited=False)
        assert made.places is not None
        return replace(made, places=self.places[made.places], levels=self.levels)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Indices (N,) in the order of an epoch."""
        if not self.buffer:
            return shuffled(len(self), seed, epoch)
        if (seed, epoch) not in self._orders:
            self._orders.clear()
            self._orders[seed, epoch] = streamed(self.places, self.rows.begins, self.buffer, seed, epoch)
        return self._orders[seed, epoch]

    def sample(self, order: Tensor, begin: int, size: int, rank: int = 0, count: int = 1) -> tuple[Tensor, Tensor]:
        """Pictures (size,3,H,W) uint8 and labels (size,) of a part of an order.

        rank, count: of this process among several, for which the rows [rank::count] alone are decoded and the others
        are black; those are the same rows of the whole batch. Raises UserError if no picture can be read.
        """
        chosen = order[begin : begin + size].tolist()
        images = np.zeros((len(chosen), *self.shape, 3), np.uint8)
        spare = self._spare(order, begin + size)
        own = range(len(chosen)) if count == 1 else range(len(chosen))[rank::count]
        missing = self._fill(images, chosen, own)
        if count > 1 and missing:  # which picture stands in for one depends on those before it in the batch
            missing = self._fill(images, chosen, range(len(chosen)))
        for place in missing:
            chosen[place], images[place] = next(spare)
        return _planes(images), self.labels[torch.tensor(chosen)]

    def parts(self, size: int = AT_ONCE) -> Iterator[Tensor]:
        """All that can be read, (n,3,H,W) uint8 at a time."""
        for first in range(0, len(self), size):
            found = self._decoded(list(range(first, min(first + size, len(self)))))
            images = [image for image in found if image is not None]
            if images:
                yield _planes(np.stack(images))

    def _fill(self, images: np.ndarray, chosen: Sequence[int], own: Sequence[int]) -> list[int]:
        """Decode the rows of a batch that are this process's. Returns those that cannot be read."""
        missing = []
        for place, image in zip(own, self._decoded([chosen[place] for place in own]), strict=True):
            if image is None:
                missing.append(place)
            else:
                images[place] = image
        return missing

    def _spare(self, order: Tensor, begin: int) -> Iterator[tuple[int, np.ndarray]]:
        """(index, picture) of what can be read from a place of an order on, round to the place before."""
        for step in range(len(order)):
            index = int(order[(begin + step) % len(order)])
            (image,) = self._decoded([index])
            if image is not None:
                yield index, image
        raise UserError(f"data {self.address!r} has no readable picture left of {len(self)}; check the files")

    def _decoded(self, indices: list[int]) -> Iterator[np.ndarray | None]:
        """Each (H,W,3) uint8; None for one that cannot be read, which is noted. Raises UserError for another size."""
        for name, data in self.rows.read(self.places[torch.tensor(indices, dtype=torch.int64)].tolist(), self.buffer):
            try:
                image = decode_image(data, self.size)
            except ValueError as error:
                note(name, str(error))
                yield None
                continue
            if image.shape[:2] != self.shape:
                raise UserError(
                    f"data {self.address!r}: {name} is of {image.shape[0]}x{image.shape[1]} pixels and the first "
                    f"picture of {self.shape[0]}x{self.shape[1]}; give one size, such as --size 32 (size=32)"
                )
            yield image


def _planes(images: np.ndarray) -> Tensor:
    """(n,3,H,W), laid out as in memory: a network adds up in another order where the channels come last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def open_images(
    address: str | Path | Any,
    *,
    split: str = "train",
    size: Size | None = None,
    in_memory: float = IN_MEMORY,
    latents: LatentFacts | None = None,
) -> ImageSet | StoredSet:
    """The pictures at an address, held in memory where they are few, else decoded as they are needed.

    address, split, size: as for ``load_images``; ``stream:ADDRESS`` is read nearly in the order of its shards.
    in_memory: GB of decoded pictures up to which they are held. latents: as for ``load_images``; they are always held.
    Raises UserError as ``load_images`` does, and for a stream of what has no shards.
    """
    check_size(size)
    if not isinstance(in_memory, int | float) or not 0 <= in_memory < inf:
        raise UserError(f"open_images: in_memory is {shown(in_memory)}; give GB of decoded pictures, 0 or more")
    stream = STREAM.fullmatch(str(address)) if isinstance(address, str) else None
    found = find_images(address, split=split, latents=True)
    if found.latents is not None:
        return load_images(address, split=split, latents=latents)
    if found.rows is None and stream is None:
        return read_all(found, size, str(address), limited=False)
    found, shape = _peeked(found, size, str(address))
    if stream is None and 3 * found.count * shape[0] * shape[1] <= round(in_memory * 1e9):
        return read_all(found, size, str(address), limited=False)
    rows = None if found.rows is None else found.rows(stream is not None)
    if rows is None or (stream is not None and isinstance(rows, FileRows | PixelRows)):
        raise UserError(
            f"data {str(address)!r} has no shards to be streamed; type {stream and stream['address']} alone"
        )
    levels = found.levels if size is None else 256
    buffer = int(stream["buffer"] or BUFFER) if stream else 0
    return StoredSet(rows, torch.arange(found.count), size, shape, found.classes, str(address), levels, buffer)


def _peeked(found: SplitEntries, size: Size | None, address: str) -> tuple[SplitEntries, tuple[int, int]]:
    """The same entries, and (height, width) of the first that can be read. Raises UserError if there is none."""
    if size is not None:
        return found, height_width(size)
    seen: list[Entry] = []

    def again() -> Entries:
        return chain(iter(seen), found.entries)

    for entry in found.entries:
        seen.append(entry)
        try:
            height, width, _ = decode_image(entry[1]).shape
        except ValueError:
            continue
        return replace(found, entries=again()), (height, width)
    return replace(found, entries=again()), (1, 1)  # whatever reads them says so
