"""Streams of clean and corrupted images for evaluation, including CIFAR-10-C and Tiny-ImageNet-C on disk.

    CIFAR-10-C         NAME.npy (5 n, H, W, 3) uint8, the n pictures of severity 1 first, and labels.npy (5 n,)
    Tiny-ImageNet-C    NAME/SEVERITY/CLASS/*.JPEG

Source: Hendrycks & Dietterich 2019, arXiv 1903.12261; the sets are Zenodo records 2535967 and 2536630. Arrays are
memory-mapped, and object arrays are refused, since unpickling them could run code.
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

from bothways.data.readers.decoding import SUFFIXES, decode_image
from bothways.data.readers.entries import Entries, SplitEntries, as_png, bytes_of, evenly_spaced
from bothways.data.readers.fit import Size, fitted
from bothways.data.sources import ImageSet, find_images
from bothways.faults import check_kinds
from bothways.reading import at_home, check_file, read_bytes
from bothways.types import UserError

SEVERITIES = (1, 2, 3, 4, 5)
LABELS = "labels"
EXTRA = (
    "gaussian_blur",
    "saturate",
    "spatter",
    "speckle_noise",
)  # the authors' extra corruptions for validation, not included in the mean
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
    """One image. place: its index, shared by all its corruptions. content: encoded, a file, or (H,W,3) uint8."""

    place: int
    name: str
    content: bytes | Path | np.ndarray
    label: int


class Batch(NamedTuple):
    """A batch: images (B,3,H,W) in [0,1], labels (B,), places (B,), the indices of the images."""

    images: Tensor
    labels: Tensor
    places: Tensor


@dataclass(frozen=True)
class CorruptedSet:
    """A corrupted benchmark on disk. checked: how its identity was verified. classes: names, () for numeric labels.

    kinds: the corruptions. count: images per corruption and severity. read: (kind, severity, rows) -> images.
    """

    name: str
    checked: str
    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    count: int
    read: Callable[[str, int, list[int]], Iterator[Picture]]

    def pictures(self, kind: str, severity: int, limit: int | None = None) -> Iterator[Picture]:
        """Images of one corruption and severity; at most ``limit``, evenly spaced, the same for every corruption."""
        found = self.read(kind, severity, evenly_spaced(self.count, limit))
        return (picture._replace(place=place) for place, picture in enumerate(found))


def clean_pictures(
    address: str | Path | ImageSet, split: str, limit: int | None, latents: bool = False
) -> tuple[tuple[str, ...], int, Iterator[Picture]]:
    """Class names, count and a lazy stream of the images at an address of ``load_images``. latents: as there."""
    found = find_images(address, split=split, limit=limit, latents=latents)
    return found.classes, found.count, (Picture(place, *entry) for place, entry in enumerate(found.entries))


def corrupted_entries(folder: Path, chosen: str, limit: int | None) -> SplitEntries:
    """The pictures of one corruption at one severity. chosen: "KIND@SEVERITY".

    Raises UserError for a corruption or a severity that the folder does not hold.
    """
    if not (folder / f"{LABELS}.npy").is_file() and not any((path / "1").is_dir() for path in folder.iterdir()):
        raise UserError(f"data '{folder}:{chosen}': {LAYOUTS}; type the folder that holds them")
    found = find_corrupted(folder)
    kind, _, severity = chosen.partition("@")
    if kind not in found.kinds:
        raise UserError(f"data '{folder}:{chosen}': it holds no {kind!r}; type one of {', '.join(found.kinds)}")
    if int(severity) not in SEVERITIES:
        raise UserError(f"data '{folder}:{chosen}': type a severity from {SEVERITIES[0]} to {SEVERITIES[-1]}")

    def entries() -> Entries:
        for _, name, content, label in found.pictures(kind, int(severity), limit):
            yield name, as_png(content) if isinstance(content, np.ndarray) else _bytes(content), label

    return SplitEntries(found.classes, len(evenly_spaced(found.count, limit)), entries())


def _bytes(content: bytes | Path) -> bytes:
    return bytes_of(content) if isinstance(content, Path) else content


def find_corrupted(address: str | Path) -> CorruptedSet:
    """Detect the corrupted set in a folder. Raises UserError for an unknown or inconsistent layout."""
    check_kinds("corruptions", folder=(address, (str, Path)))
    folder = at_home(address)
    if not folder.is_dir():
        raise UserError(f"corruptions {str(address)!r} is not a folder; type offline, or the folder of CIFAR-10-C")
    if (folder / f"{LABELS}.npy").is_file():
        return _arrays(folder)
    kinds = sorted(path.name for path in folder.iterdir() if (path / "1").is_dir())
    if kinds:
        return _folders(folder, kinds)
    raise UserError(f"corruptions {str(address)!r}: {LAYOUTS}; type offline, or the folder that holds them")


# ---- arrays in the layout of CIFAR-10-C ----------------------------------------------------------------------------


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
    """Memory-map a .npy file. Raises UserError for another format and for object arrays: a pickle is never read."""
    check_file(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{path} is not a numeric array that can be memory-mapped ({str(error).splitlines()[0]}), and a pickle is "
            "never read, since it can run code; download it again"
        ) from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise UserError(f"{path} is an archive of several arrays; type the folder of NAME.npy files")
    return found


def _known(folder: Path, kinds: tuple[str, ...]) -> tuple[str, str]:
    """The name of the set, and how its files were verified."""
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
    check_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == CIFAR10_C_MD5[name]


# ---- folders in the layout of Tiny-ImageNet-C ----------------------------------------------------------------------


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
                raise UserError(f"{path.parent} is a class missing in {folder / kinds[0] / '1'}; restore the folders")
            yield Picture(place, str(path.relative_to(folder)), path, classes.index(path.parent.name))

    whole = count == TINY_IMAGENET_C_PICTURES and len(classes) == 200
    name = "Tiny-ImageNet-C" if whole else f"{folder.resolve().name} (not the whole Tiny-ImageNet-C)"
    checked = f"{count:,} pictures of {len(classes)} classes in each of {len(counts)} folders; no checksum is published"
    return CorruptedSet(name, checked, classes, tuple(kinds), count, read)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)


# ---- batches -------------------------------------------------------------------------------------------------------


def batched(pictures: Iterator[Picture], size: Size, batch: int, skipped: dict[str, str]) -> Iterator[Batch]:
    """Batches of at most ``batch`` pictures of one size; one that cannot be read goes to ``skipped``, {name: why}.

    size: as for ``load_images``.
    """
    images: list[np.ndarray] = []
    facts: list[tuple[int, int]] = []
    for place, name, content, label in pictures:
        try:
            images.append(as_pixels(content, size))
        except (OSError, ValueError) as error:
            skipped[name] = unreadable_because(error)
            continue
        facts.append((label, place))
        if len(images) == batch:
            yield _stacked(images, facts)
            images, facts = [], []
    if images:
        yield _stacked(images, facts)


def as_pixels(content: bytes | Path | np.ndarray, size: Size) -> np.ndarray:
    """(height, width, 3) uint8. Raises OSError or ValueError for what is not a picture."""
    if isinstance(content, np.ndarray):
        return content if content.shape[:2] == size else fitted(Image.fromarray(content), size)
    if not isinstance(content, Path):
        return decode_image(content, size)
    try:
        return decode_image(read_bytes(content), size)
    except UserError as error:  # whose line is told behind the name of the picture
        raise ValueError(str(error).removeprefix(f"{content}: ")) from error


def unreadable_because(error: OSError | ValueError) -> str:
    """A short reason why an image is unreadable, without parts that differ between runs."""
    words = error.strerror if isinstance(error, OSError) else None
    return (words.lower() if words else str(error)).splitlines()[0]


def _stacked(images: list[np.ndarray], facts: list[tuple[int, int]]) -> Batch:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    labels, places = torch.tensor(facts).unbind(1)
    return Batch(stacked, labels, places)
