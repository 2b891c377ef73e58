"""Pictures one after the other, for an evaluation: clean ones, and sets of corrupted ones that lie in a folder.

    CIFAR-10-C         NAME.npy (5 n, H, W, 3) uint8, the n pictures of severity 1 first, and labels.npy (5 n,)
    Tiny-ImageNet-C    NAME/SEVERITY/CLASS/*.JPEG

Source: Hendrycks & Dietterich 2019, arXiv 1903.12261; the sets are Zenodo records 2535967 and 2536630. Arrays are
mapped, not read, and one that holds objects is refused, since reading it would run code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bothways.data.readers.decoding import SUFFIXES, decode_image, fitted
from bothways.data.readers.entries import spaced
from bothways.data.sources import ImageSet, find_images
from bothways.types import UserError

SEVERITIES = (1, 2, 3, 4, 5)
LABELS = "labels"
EXTRA = (
    "gaussian_blur",
    "saturate",
    "spatter",
    "speckle_noise",
)  # the authors' own for validation, no part of the mean
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_C_BYTES = 153_600_128  # of each array: a header of 128 bytes and 50,000 pictures
CIFAR10_C_MD5 = {
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    LABELS: "c439b113295ed5254878798ffe28fd54",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
}
TINY_IMAGENET_C_PICTURES = 10_000  # in each folder of a severity: 200 classes of 50
LAYOUTS = "it holds neither labels.npy with arrays beside it (CIFAR-10-C) nor NAME/1/CLASS folders (Tiny-ImageNet-C)"


class Picture(NamedTuple):
    """place: its number, the same in every corruption of it. content: encoded, a file, or (H,W,3) uint8."""

    place: int
    name: str
    content: bytes | Path | np.ndarray
    label: int


class Batch(NamedTuple):
    """images (B,3,H,W) in [0,1], labels (B,), places (B,): the numbers of the pictures."""

    images: Tensor
    labels: Tensor
    places: Tensor


@dataclass(frozen=True)
class CorruptedSet:
    """name, checked: what it is, and how that was verified. classes: their names, () where labels are numbers only.

    kinds: the corruptions. count: pictures of one corruption at one severity. read: (kind, severity, rows) -> pictures.
    """

    name: str
    checked: str
    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    count: int
    read: Callable[[str, int, list[int]], Iterator[Picture]]

    def pictures(self, kind: str, severity: int, limit: int | None = None) -> Iterator[Picture]:
        """Those of one corruption at one severity; at most ``limit``, evenly spaced, the same of every corruption."""
        found = self.read(kind, severity, spaced(self.count, limit))
        return (picture._replace(place=place) for place, picture in enumerate(found))


def clean_pictures(
    address: str | Path | ImageSet, split: str, limit: int | None
) -> tuple[tuple[str, ...], int, Iterator[Picture]]:
    """The class names, how many, and the pictures at an address of ``load_images``, read when they are needed."""
    found = find_images(address, split=split, limit=limit)
    return found.classes, found.count, (Picture(place, *entry) for place, entry in enumerate(found.entries))


def find_corrupted(address: str | Path) -> CorruptedSet:
    """The set of corrupted pictures in a folder. Raises UserError for another layout, and for what does not fit it."""
    folder = Path(address).expanduser()
    if not folder.is_dir():
        raise UserError(f"corruptions {str(address)!r} is no folder; type offline, or the folder of CIFAR-10-C")
    if (folder / f"{LABELS}.npy").is_file():
        return _arrays(folder)
    kinds = sorted(path.name for path in folder.iterdir() if (path / "1").is_dir())
    if kinds:
        return _folders(folder, kinds)
    raise UserError(f"corruptions {str(address)!r}: {LAYOUTS}; type offline, or the folder that holds them")


# ---- arrays, as CIFAR-10-C has them --------------------------------------------------------------------------------


def _arrays(folder: Path) -> CorruptedSet:
    labels = _mapped(folder / f"{LABELS}.npy")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or len(labels) % len(SEVERITIES):
        raise UserError(
            f"{folder / LABELS}.npy holds {labels.dtype} {labels.shape}; CIFAR-10-C has (50000,) whole numbers there"
        )
    kinds = tuple(sorted(path.stem for path in folder.glob("*.npy") if path.stem != LABELS))
    if not kinds:
        raise UserError(f"corruptions {str(folder)!r} holds labels.npy and no other array; put NAME.npy beside it")
    for kind in kinds:
        array = _mapped(folder / f"{kind}.npy")
        if array.dtype != np.uint8 or array.ndim != 4 or len(array) != len(labels) or array.shape[3] != 3:
            raise UserError(
                f"{folder / kind}.npy holds {array.dtype} {array.shape} beside {len(labels)} labels; CIFAR-10-C has "
                "uint8 (50000, 32, 32, 3) there"
            )
    count = len(labels) // len(SEVERITIES)

    def read(kind: str, severity: int, places: list[int]) -> Iterator[Picture]:
        array, begin = _mapped(folder / f"{kind}.npy"), (severity - 1) * count
        for place in places:
            row = begin + place
            yield Picture(place, f"{kind}.npy row {row}", np.array(array[row]), int(labels[row]))

    classes = CIFAR10_CLASSES if int(labels.max()) < len(CIFAR10_CLASSES) else ()
    return CorruptedSet(*_known(folder, kinds), classes, kinds, count, read)


def _mapped(path: Path) -> np.ndarray:
    """An array of a .npy file, mapped. Raises UserError for what is none, or holds objects: a pickle is never read."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{path} is not an array of numbers that can be mapped ({str(error).splitlines()[0]}), and a pickle is "
            "never read, since it can run code; download it again"
        ) from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise UserError(f"{path} is an archive of several arrays; type the folder of NAME.npy files")
    return found


def _known(folder: Path, kinds: tuple[str, ...]) -> tuple[str, str]:
    """The name of the set, and what its files were compared with."""
    own = [name for name in (*kinds, LABELS) if not _is_published(folder, name)]
    if not own:
        return "CIFAR-10-C", f"each of the {len(kinds) + 1} files has the MD5 of CIFAR-10-C"
    named = ", ".join(own[:3]) + (", ..." if len(own) > 3 else "")
    checked = f"{len(own)} of {len(kinds) + 1} files have not the MD5 of CIFAR-10-C ({named}); their shapes fit"
    return f"{folder.resolve().name} (not the published CIFAR-10-C)", checked


def _is_published(folder: Path, name: str) -> bool:
    path = folder / f"{name}.npy"
    if name not in CIFAR10_C_MD5 or (name != LABELS and path.stat().st_size != CIFAR10_C_BYTES):
        return False
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == CIFAR10_C_MD5[name]


# ---- folders, as Tiny-ImageNet-C has them --------------------------------------------------------------------------


def _folders(folder: Path, kinds: list[str]) -> CorruptedSet:
    classes = tuple(sorted(path.name for path in (folder / kinds[0] / "1").iterdir() if path.is_dir()))
    counts = {place: len(_files(folder / place)) for place in (f"{k}/{s}" for k in kinds for s in SEVERITIES)}
    count = counts[f"{kinds[0]}/1"]
    odd = next((place for place, found in counts.items() if found != count or found == 0), None)
    if odd is not None:
        raise UserError(
            f"{folder / odd} holds {counts[odd]} pictures and {folder / kinds[0] / '1'} {count}; every corruption has "
            "severities 1 to 5 of the same pictures"
        )

    def read(kind: str, severity: int, places: list[int]) -> Iterator[Picture]:
        files = _files(folder / kind / str(severity))
        for place in places:
            path = files[place]
            if path.parent.name not in classes:
                raise UserError(
                    f"{path.parent} is of a class that {folder / kinds[0] / '1'} has not; restore the folders"
                )
            yield Picture(place, str(path.relative_to(folder)), path, classes.index(path.parent.name))

    whole = count == TINY_IMAGENET_C_PICTURES and len(classes) == 200
    name = "Tiny-ImageNet-C" if whole else f"{folder.resolve().name} (not the whole Tiny-ImageNet-C)"
    checked = f"{count:,} pictures of {len(classes)} classes in each of {len(counts)} folders; no checksum is published"
    return CorruptedSet(name, checked, classes, tuple(kinds), count, read)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)


# ---- batches -------------------------------------------------------------------------------------------------------


def batched(pictures: Iterator[Picture], size: tuple[int, int], batch: int, skipped: dict[str, str]) -> Iterator[Batch]:
    """Batches of at most ``batch`` pictures of one size; one that cannot be read goes to ``skipped``, {name: why}.

    size: (height, width) in pixels; the shorter side of each is resized to it and the centre cut out.
    """
    images: list[np.ndarray] = []
    facts: list[tuple[int, int]] = []
    for place, name, content, label in pictures:
        try:
            images.append(as_pixels(content, size))
        except (OSError, ValueError) as error:
            skipped[name] = unread(error)
            continue
        facts.append((label, place))
        if len(images) == batch:
            yield _stacked(images, facts)
            images, facts = [], []
    if images:
        yield _stacked(images, facts)


def as_pixels(content: bytes | Path | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) uint8. Raises OSError or ValueError for what is not a picture."""
    if isinstance(content, np.ndarray):
        return content if content.shape[:2] == size else fitted(Image.fromarray(content), size)
    return decode_image(content.read_bytes() if isinstance(content, Path) else content, size)


def unread(error: OSError | ValueError) -> str:
    """Why a picture cannot be read, in a few words without what differs from run to run."""
    words = error.strerror if isinstance(error, OSError) else None
    return (words.lower() if words else str(error)).splitlines()[0]


def _stacked(images: list[np.ndarray], facts: list[tuple[int, int]]) -> Batch:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    labels, places = torch.tensor(facts).unbind(1)
    return Batch(stacked, labels, places)
