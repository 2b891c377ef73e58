"""Loading of labelled images by address: a built-in name, the hub, parquet files, or a folder of images.

An unreadable image is reported and skipped; it never stops a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways import budget
from bothways.brief import brief
from bothways.data.readers.builtin import DIGITS, DIGITS_SHAPE, SWISS_ROLL, from_digits, from_swiss_roll
from bothways.data.readers.decoding import decoded
from bothways.data.readers.entries import Entries, SplitEntries, as_png, counted, evenly_spaced
from bothways.data.readers.fit import Size, check_size, height_width
from bothways.data.readers.hub import HUB_NAMES, SCHEME, from_hub, from_hub_stream
from bothways.data.readers.live import is_live, tensor_of
from bothways.data.rows.latents import LatentFacts, check_latents, read_latents
from bothways.data.rows.order import shuffled
from bothways.data.rows.places import STREAM, pictures_at, place_of
from bothways.faults import check_amounts, check_kinds
from bothways.progress import stage
from bothways.types import UserError

LABELLED = "(pictures, labels), a whole number a picture"
NAMED = (DIGITS, SWISS_ROLL)  # take precedence over a folder of the same name


@dataclass(frozen=True)
class ImageSet:
    """An image set in memory: images (N,3,H,W) uint8, labels (N,) int64 (-1: unknown), classes, unreadable files.

    Of latents (rows/latents.py) the images are (N,C,h,w) float32.
    levels: number of values that a channel of the data can take, for dequantisation.
    places: (N,), the number of each among the pictures that were there to read. names: (N,), their files or rows.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    levels: int = 256
    places: Tensor | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return self.name

    @cached_property
    def name(self) -> str:
        """How a run that was given these pictures calls them: their number, their size and what they are."""
        digest = hashlib.sha256(self.images.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()
        return f"{len(self)} pictures of {self.images.shape[-2]}x{self.images.shape[-1]} from Python ({digest[:8]})"

    @cached_property
    def channels(self) -> int:
        """1 if every image is grey, else 3; the tensor has three channels either way."""
        return 1 if bool((self.images == self.images[:, :1]).all()) else 3

    @cached_property
    def titles(self) -> tuple[str, ...]:
        """The names of the pictures, with the class of each in brackets where it is known."""
        classes = [f" ({name.split(',')[0]})" for name in self.classes]
        own = [classes[k] if 0 <= k < len(classes) else "" for k in self.labels.tolist()]
        return tuple(map("".join, zip(self.names, own, strict=True))) if self.names else ()

    @property
    def are_latents(self) -> bool:
        return self.images.is_floating_point()

    def floats(self) -> Tensor:
        """The pictures (N,3,H,W) float in [0,1], or latents. Raises UserError where they do not fit into memory."""
        if self.are_latents:
            return self.images
        check_room(len(self), self.images.shape[-2:], "in memory", limited=True, bytes_each=4)
        return self.images.float().div_(255)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.images.shape[-2], self.images.shape[-1]

    def loaded(self) -> ImageSet:
        """Itself; of pictures that are decoded as they are needed (rows/stored.py), those that can be read."""
        return self

    def order(self, seed: int, epoch: int) -> Tensor:
        """Indices (N,) in the order of an epoch."""
        return shuffled(len(self), seed, epoch)

    def sample(self, order: Tensor, begin: int, size: int, rank: int = 0, count: int = 1) -> tuple[Tensor, Tensor]:
        """Pictures (size,3,H,W) uint8 and labels (size,) of a part of an order."""
        chosen = order[begin : begin + size]
        return self.images[chosen], self.labels[chosen]

    def parts(self, size: int = 1024) -> Iterator[Tensor]:
        """All pictures, (n,3,H,W) uint8 at a time."""
        return iter(self.images.split(size))

    def subset(self, indices: Tensor) -> ImageSet:
        places = None if self.places is None else self.places[indices]
        names = tuple(self.names[place] for place in torch.arange(len(self))[indices].tolist()) if self.names else ()
        return replace(self, images=self.images[indices], labels=self.labels[indices], places=places, names=names)


@dataclass(frozen=True)
class Chosen:
    """Some pictures of a split in place of all, by their numbers; taken wherever an address is, and named like it."""

    address: str | Path | ImageSet
    places: tuple[int, ...]

    def __str__(self) -> str:
        return str(self.address)

    def find(self, split: str, limit: int | None) -> SplitEntries:
        """Those of a split, at most ``limit``, evenly spaced."""
        found = find_images(self.address, split=split, latents=True)
        wanted = {self.places[place] for place in evenly_spaced(len(self.places), limit)}
        entries = (entry for place, entry in enumerate(found.entries) if place in wanted)
        return replace(found, count=len(wanted), entries=entries)


def load_images(
    address: str | Path | Any,
    *,
    split: str = "train",
    size: Size | None = None,
    limit: int | None = None,
    first: int | None = None,
    latents: LatentFacts | None = None,
) -> ImageSet:
    """Load the images at an address into memory.

    address: ``digits``; ``swiss-roll``; ``hub:OWNER/NAME``; ``FILE.parquet``; a folder that holds ``SPLIT.parquet`` or
        the shards of a split in the hub's layout; or a folder with one sub-folder of image files a class (or just
        image files, or such a folder a split); from Python also pictures, or (pictures, labels), as ``as_set`` takes
        them. More of them stand in docs/data.md.
    size: pixels, an int or (height, width): the shorter side is resized to it, then a centre crop; or a model's own
        way, from ``size_of``. Required if the images differ in size.
    limit: read only so many, evenly spaced, so that a folder sorted by class is not cut to its first classes.
    first: read only the first so many. latents: which latents the caller takes in place of pictures.
    Raises UserError if no image can be read.
    """
    check_amounts("load_images", limit=limit, first=first)
    check_size(size)
    found = find_images(address, split=split, limit=limit, latents=True)
    count = found.count if first is None else min(first, found.count)
    found = replace(found, count=count, entries=islice(found.entries, count))
    if found.latents is not None:
        check_latents(found.latents, latents, str(address))
        held, labels, names = read_latents(found.entries, found.count, found.latents.shape, str(address))
        return ImageSet(held, labels, found.classes, places=torch.arange(len(held)), names=names)
    return read_all(found, size, str(address), limited=limit is not None)


def as_set(given: Any) -> ImageSet:
    """Pictures that Python holds (readers/live.py), or a pair of them and their labels (N,), as labelled pictures.

    Labels are whole numbers, negative where unknown; those with gaps go by their numbers as names.
    Raises UserError for what is neither.
    """
    if isinstance(given, ImageSet):
        return given
    pair = isinstance(given, tuple) and len(given) == 2
    pair = pair and (getattr(given[1], "ndim", None) == 1 or isinstance(given[1], list))
    images = tensor_of(given[0] if pair else given, "data").detach().cpu()
    try:
        labels = torch.as_tensor(given[1]).cpu() if pair else torch.full((len(images),), -1)
    except (TypeError, ValueError, RuntimeError) as error:  # names, or lists of several lengths
        raise UserError(f"data: labels of {brief(given[1])} are no numbers; give {LABELLED}") from error
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.is_complex():
        raise UserError(
            f"data of {len(images)} pictures and labels {tuple(labels.shape)} of {labels.dtype}; give {LABELLED}"
        )
    classes, places = counted(labels.tolist())
    numbers = torch.tensor([places.get(label, -1) for label in labels.tolist()], dtype=torch.int64)
    return ImageSet((255 * images).round().byte(), numbers, classes)


def _from_set(given: ImageSet, limit: int | None) -> SplitEntries:
    chosen = evenly_spaced(len(given), limit)

    def entries() -> Entries:
        for place in chosen:
            pixels = given.images[place].permute(1, 2, 0).contiguous().numpy()
            yield f"picture {place}", as_png(pixels), int(given.labels[place])

    return SplitEntries(given.classes, len(chosen), entries(), given.levels)


def find_images(
    address: str | Path | Any, *, split: str = "train", limit: int | None = None, latents: bool = False
) -> SplitEntries:
    """What ``load_images`` reads, one by one: the class names, how many pictures, and (name, bytes, label) of each.

    latents: whether they may be latents of an autoencoder."""
    check_kinds("data", split=(split, str))
    if isinstance(address, Chosen):
        return address.find(split, limit)
    if is_live(address):
        return _from_set(as_set(address), limit)
    stream = STREAM.fullmatch(str(address))
    address = stream["address"] if stream else address
    if str(address) == DIGITS:
        return from_digits(split, limit)
    if str(address) == SWISS_ROLL:
        return from_swiss_roll(split, limit)
    if str(address).startswith(SCHEME):
        return (from_hub_stream if stream else from_hub)(str(address), split, limit)
    if not isinstance(address, str | Path):
        raise UserError(f"data is {brief(address)}; type a name, a file or a folder, or give pictures (N,3,H,W)")
    place = place_of(address)
    if place is None:
        named = HUB_NAMES.get(str(address).casefold(), "hub:OWNER/NAME such as hub:uoft-cs/cifar10")
        raise UserError(
            f"data {str(address)!r} does not exist; type the path of a parquet or tar file or of an image folder, "
            f"{named}, digits, or swiss-roll"
        )
    found = pictures_at(place, split, limit)
    check_latents(None if latents else found.latents, None, str(address))
    return found


def first_size(address: str | Path, split: str) -> tuple[int, int]:
    """Size (height, width) of the first readable image. Raises UserError if there is none."""
    image, _ = next(decoded(find_images(address, split=split).entries, None, str(address), []))
    return image.shape[0], image.shape[1]


def check_room(
    count: int, size: Sequence[int], address: str, *, limited: bool = False, resized: bool = False, bytes_each: int = 1
) -> None:
    """Raise UserError where so many pictures of (height, width) do not fit into memory.

    limited, resized: whether the caller chose their number, or their size. bytes_each: of a value.
    """
    each = 3 * bytes_each * size[0] * size[1]

    def cure(free: float) -> str:
        fewer = max(1, int(free // each))
        side = max(1, int((free / (3 * bytes_each * count)) ** 0.5))
        number = f"type --limit {fewer} (or --n {fewer})" if limited else f"give at most {fewer} of them"
        return f"{number}, or type --size {side}" if resized else number

    budget.check_memory(f"the {count:,} pictures of {size[0]}x{size[1]} pixels of data {address!r}", count * each, cure)


def read_all(found: SplitEntries, size: Size | None, address: str, *, limited: bool) -> ImageSet:
    """What was found, in memory. limited: whether the caller chose the number. Raises UserError as ``load_images``."""
    resized = size is None or isinstance(size, int)
    if size is not None:
        check_room(found.count, height_width(size), address, limited=limited, resized=resized)
    skipped: list[str] = []
    pulled: list[tuple[int, str]] = []  # number and name of each picture as it is asked for, and so of the last decoded

    def numbered() -> Entries:
        for place, entry in enumerate(found.entries):
            pulled[:] = [(place, entry[0])]
            yield entry

    stacked = torch.empty(0, dtype=torch.uint8)
    labels: list[int] = []
    chosen: list[tuple[int, str]] = []
    shapes: set[tuple[int, ...]] = set()
    with stage("reading pictures", found.count) as now:
        for image, label in decoded(numbered(), size, address, skipped):
            if not labels:
                check_room(found.count, image.shape[:2], address, limited=limited, resized=resized)
                stacked = torch.empty(found.count, 3, *image.shape[:2], dtype=torch.uint8)
            shapes.add(image.shape)
            if len(shapes) == 1:
                stacked[len(labels)] = torch.from_numpy(image.copy()).permute(2, 0, 1)
            labels.append(label)
            chosen += pulled
            now.advance()
    if len(shapes) > 1:
        raise UserError(
            f"data {address!r} holds pictures of {len(shapes)} sizes; give one size, such as --size 32 (size=32)"
        )
    stacked = stacked[: len(labels)]
    # resizing interpolates, so resized data have 256 levels
    levels = found.levels if size is None or stacked.shape[-2:] == DIGITS_SHAPE else 256
    places, names = torch.tensor([place for place, _ in chosen]), tuple(name for _, name in chosen)
    return ImageSet(stacked, torch.tensor(labels), found.classes, tuple(skipped), levels, places, names)
