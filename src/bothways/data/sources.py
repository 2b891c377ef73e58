"""Labelled pictures from a parquet file, a folder of parquet files, or a folder of image folders.

A picture that cannot be read is named and skipped, with a count; it never stops a run.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bothways.types import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
Entries = Iterator[tuple[str, bytes, int]]  # a picture's name, its encoded bytes, its label or -1
PIXELS_AT_MOST = 64_000_000  # a larger picture is taken for a decompression bomb


@dataclass(frozen=True)
class ImageSet:
    """images (N,3,H,W) uint8, labels (N,) int64 (-1: unknown), class names, and the names of unreadable files."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Tensor) -> ImageSet:
        return ImageSet(self.images[indices], self.labels[indices], self.classes, self.skipped)


def load_images(
    address: str | Path,
    *,
    split: str = "train",
    size: int | tuple[int, int] | None = None,
    limit: int | None = None,
) -> ImageSet:
    """Read every picture at an address into memory.

    address: ``FILE.parquet`` (an ``image`` column of encoded bytes, a ``label`` column), a folder that holds
        ``SPLIT.parquet``, or a folder with one sub-folder of image files a class (or just image files, or such a
        folder a split).
    size: pixels, an int or (height, width); the shorter side is resized to it and the centre cut out. Needed
        where the pictures differ in size.
    limit: read only so many, evenly spaced, so that a folder sorted by class is not cut to its first classes.
    Raises UserError where nothing can be read.
    """
    names, _, entries = find_images(address, split=split, limit=limit)
    return _read(entries, names, size, str(address))


def find_images(
    address: str | Path, *, split: str = "train", limit: int | None = None
) -> tuple[tuple[str, ...], int, Entries]:
    """What ``load_images`` reads, one by one: the class names, how many pictures, and (name, bytes, label) of each."""
    path = Path(address).expanduser()
    if not path.exists():
        raise UserError(f"data {str(address)!r} does not exist; type the path of a parquet file or of an image folder")
    if path.is_dir() and (path / f"{split}.parquet").is_file():
        path = path / f"{split}.parquet"
    elif path.is_dir() and any(path.glob("*.parquet")):
        found = ", ".join(sorted(p.stem for p in path.glob("*.parquet")))
        raise UserError(f"data {str(address)!r} has no split {split!r}; it has {found}")
    elif path.is_dir():
        path = _split_folder(path, split)
    return _parquet_entries(path, limit) if path.is_file() else _folder_entries(path, limit)


def _parquet_entries(path: Path, limit: int | None) -> tuple[tuple[str, ...], int, Entries]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise UserError(f"data {str(path)!r} is not a parquet file that can be read: {error}") from error
    if "image" not in table.column_names:
        raise UserError(f"data {str(path)!r} has no column 'image'; it has {', '.join(table.column_names)}")
    table = table.take(_spaced(len(table), limit))
    facts = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    names = facts.get("info", {}).get("features", {}).get("label", {}).get("names", [])
    labels = table["label"].to_pylist() if "label" in table.column_names else [None] * len(table)
    if not all(label is None or isinstance(label, int) for label in labels):
        raise UserError(f"data {str(path)!r} has labels that are not whole numbers; number the classes from 0")

    def entries() -> Entries:
        for row, (image, label) in enumerate(zip(table["image"].to_pylist(), labels, strict=True)):
            data = image.get("bytes") if isinstance(image, dict) else image  # the hub wraps the bytes, others do not
            yield f"{path.name} row {row}", data if isinstance(data, bytes) else b"", -1 if label is None else label

    return tuple(names), len(table), entries()


def _split_folder(path: Path, split: str) -> Path:
    """PATH/SPLIT where it holds a folder a class, else PATH itself."""
    splits = {p.name for p in path.iterdir() if p.is_dir() and any(inner.is_dir() for inner in p.iterdir())}
    if split in splits:
        return path / split
    if splits & {"train", "test"}:  # else the splits would be taken for classes
        raise UserError(f"data {str(path)!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
    return path


def _folder_entries(path: Path, limit: int | None) -> tuple[tuple[str, ...], int, Entries]:
    names = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")))
    folders = [(label, path / name) for label, name in enumerate(names)] or [(-1, path)]

    files = [
        (file, label)
        for label, folder in folders
        for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    ]

    chosen = [files[place] for place in _spaced(len(files), limit)]

    def entries() -> Entries:
        for file, label in chosen:
            yield str(file.relative_to(path)), file.read_bytes(), label

    return names, len(chosen), entries()


def _spaced(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` of 0..count-1, evenly spaced."""
    if limit is None or limit >= count:
        return list(range(count))
    return [round(i * (count - 1) / max(1, limit - 1)) for i in range(limit)]


def decoded(
    entries: Entries, size: int | tuple[int, int] | None, address: str, skipped: list[str]
) -> Iterator[tuple[np.ndarray, int]]:
    """((H,W,3) uint8, label) of each picture that can be read; the others are named in ``skipped``, with a warning.

    Raises UserError where none can be read.
    """
    count = 0
    for name, data, label in entries:
        try:
            image = decode_image(data, size)
        except (OSError, ValueError, SyntaxError) as error:
            skipped.append(f"{name}: {error}")
            continue
        count += 1
        yield image, label
    if not count:
        raise UserError(f"data {address!r} holds no picture that can be read ({len(skipped)} unreadable)")
    if skipped:
        warnings.warn(f"{len(skipped)} unreadable pictures skipped, the first: {skipped[0]}", stacklevel=4)


def _read(entries: Entries, names: tuple[str, ...], size: int | tuple[int, int] | None, address: str) -> ImageSet:
    skipped: list[str] = []
    images, labels = zip(*decoded(entries, size, address, skipped), strict=True)
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(f"data {address!r} holds pictures of {len(shapes)} sizes; give one size, such as size=224")
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(stacked, torch.tensor(labels), names, tuple(skipped))


def decode_image(data: bytes, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Encoded bytes -> (H,W,3) uint8 RGB; with a size, the shorter side is resized to it and the centre cut out.

    Raises OSError, SyntaxError or ValueError for what is not a picture, and ValueError for more than PIXELS_AT_MOST.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > PIXELS_AT_MOST:
                    raise ValueError(f"{opened.width} x {opened.height} pixels are more than {PIXELS_AT_MOST}")
                picture = opened.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if size is None:
        return np.asarray(picture)
    height, width = (size, size) if isinstance(size, int) else size
    scale = max(height / picture.height, width / picture.width)
    wide, high = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    if (wide, high) != picture.size:
        picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - width) // 2, (high - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))
