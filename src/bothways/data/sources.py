"""Loading of labelled images by address: a built-in name, the hub, parquet files, or a folder of images.

An unreadable image is reported and skipped; it never stops a run.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bothways.data.builtin import DIGITS, DIGITS_SHAPE, SWISS_ROLL, from_digits, from_swiss_roll
from bothways.data.entries import Entries, Size, SplitEntries, bytes_of, evenly_spaced, fitted
from bothways.data.hub import SCHEME, from_hub
from bothways.data.parquet import find_shards, from_parquet
from bothways.types import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
NAMED = (DIGITS, SWISS_ROLL)  # take precedence over a folder of the same name
PIXELS_AT_MOST = 64_000_000  # a larger image is refused as a decompression bomb


@dataclass(frozen=True)
class ImageSet:
    """An image set in memory: images (N,3,H,W) uint8, labels (N,) int64 (-1: unknown), classes, unreadable files.

    levels: number of values that a channel of the data can take, for dequantisation.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    levels: int = 256

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def channels(self) -> int:
        """1 if every image is grey, else 3; the tensor has three channels either way."""
        return 1 if bool((self.images == self.images[:, :1]).all()) else 3

    def subset(self, indices: Tensor) -> ImageSet:
        return replace(self, images=self.images[indices], labels=self.labels[indices])


def load_images(
    address: str | Path,
    *,
    split: str = "train",
    size: Size | None = None,
    limit: int | None = None,
    first: int | None = None,
) -> ImageSet:
    """Load the images at an address into memory.

    address: ``digits``; ``swiss-roll``; ``hub:OWNER/NAME``; ``FILE.parquet``; a folder that holds ``SPLIT.parquet`` or
        the shards of a split in the hub's layout; or a folder with one sub-folder of image files a class (or just
        image files, or such a folder a split).
    size: pixels, an int or (height, width); the shorter side is resized to it and the centre cut out; or a model's own
        way, from ``size_of``. Needed where the pictures differ in size.
    limit: read only so many, evenly spaced, so that a folder sorted by class is not cut to its first classes.
    first: read only the first so many.
    Raises UserError if no image can be read.
    """
    found = find_images(address, split=split, limit=limit)
    return _read(replace(found, entries=islice(found.entries, first)), size, str(address))


def find_images(address: str | Path, *, split: str = "train", limit: int | None = None) -> SplitEntries:
    """The images at an address as a stream of (name, bytes, label), with class names and count; see ``load_images``."""
    if str(address) == DIGITS:
        return from_digits(split, limit)
    if str(address) == SWISS_ROLL:
        return from_swiss_roll(split, limit)
    if str(address).startswith(SCHEME):
        return from_hub(str(address), split, limit)
    path = Path(address).expanduser()
    if not path.exists():
        raise UserError(
            f"data {str(address)!r} does not exist; type the path of a parquet file or of an image folder, "
            "hub:OWNER/NAME, digits, or swiss-roll"
        )
    if path.is_file():
        return from_parquet([path], limit)
    shards = find_shards(path, split)
    return from_parquet(shards, limit) if shards else _folder_entries(split_folder(path, split), limit)


def first_size(address: str | Path, split: str) -> tuple[int, int]:
    """Size (height, width) of the first readable image. Raises UserError if there is none."""
    image, _ = next(decoded(find_images(address, split=split).entries, None, str(address), []))
    return image.shape[0], image.shape[1]


def split_folder(path: Path, split: str) -> Path:
    """PATH/SPLIT if it holds class folders, else PATH itself."""
    splits = {p.name for p in path.iterdir() if p.is_dir() and any(inner.is_dir() for inner in p.iterdir())}
    if split in splits:
        return path / split
    if splits & {"train", "test"}:  # otherwise the splits would be read as classes
        raise UserError(f"data {str(path)!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
    return path


def _folder_entries(path: Path, limit: int | None) -> SplitEntries:
    names = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")))
    folders = [(label, path / name) for label, name in enumerate(names)] or [(-1, path)]

    files = [
        (file, label)
        for label, folder in folders
        for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    ]

    chosen = [files[place] for place in evenly_spaced(len(files), limit)]

    def entries() -> Entries:
        for file, label in chosen:
            yield str(file.relative_to(path)), bytes_of(file), label

    return SplitEntries(names, len(chosen), entries())


def decoded(entries: Entries, size: Size | None, address: str, skipped: list[str]) -> Iterator[tuple[np.ndarray, int]]:
    """((H,W,3) uint8, label) of each picture that can be read; the others are named in ``skipped``, with a warning.

    Raises UserError if no image can be read.
    """
    count = 0
    for name, data, label in entries:
        try:
            image = decode_image(data, size)
        except ValueError as error:
            skipped.append(f"{name}: {error}")
            continue
        count += 1
        yield image, label
    if not count:
        raise UserError(f"data {address!r} has no readable picture ({len(skipped)} unreadable)")
    if skipped:
        warnings.warn(f"{len(skipped)} unreadable pictures skipped, the first: {skipped[0]}", stacklevel=4)


def _read(found: SplitEntries, size: Size | None, address: str) -> ImageSet:
    skipped: list[str] = []
    images, labels = zip(*decoded(found.entries, size, address, skipped), strict=True)
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(
            f"data {address!r} holds pictures of {len(shapes)} sizes; give one size, such as --size 32 (size=32)"
        )
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    # resizing interpolates, so resized data have 256 levels
    levels = found.levels if size is None or stacked.shape[-2:] == DIGITS_SHAPE else 256
    return ImageSet(stacked, torch.tensor(labels), found.classes, tuple(skipped), levels)


def decode_image(data: bytes, size: Size | None = None) -> np.ndarray:
    """Encoded bytes -> (H,W,3) uint8 RGB; with a size, the shorter side is resized to it and the centre cut out.

    Raises ValueError for bytes that are not an image, and for more than PIXELS_AT_MOST pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > PIXELS_AT_MOST:
                    raise ValueError(f"{opened.width} x {opened.height} pixels are more than {PIXELS_AT_MOST}")
                picture = opened.convert("RGB")
    except UnidentifiedImageError as error:  # PIL's own message is the repr of a buffer
        raise ValueError("no image that can be read") from error
    except Exception as error:  # decoders raise exceptions of any class for damaged files
        raise ValueError(str(error) or type(error).__name__) from error
    return np.asarray(picture) if size is None else fitted(picture, size)
