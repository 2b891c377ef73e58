"""The photos, masks and style pictures of a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways import budget
from bothways.data.given import pictures_of
from bothways.data.readers.decoding import decoded
from bothways.data.readers.live import is_live
from bothways.data.readers.transparent import BLACK
from bothways.data.sources import find_images
from bothways.numerics.pyramid import resize
from bothways.reading import at_home
from bothways.runs import PHOTOS, to_png
from bothways.runs.files import replace_file
from bothways.types import UserError

SIDE_AT_MOST = 1024  # of a photo that is drawn at its own size
SCALING = 36  # bytes a pixel of a photo while it is scaled
Photo = Any  # what ``pictures_of`` takes
Box = Sequence[int]


@dataclass(frozen=True)
class Scene:
    """The inputs of a task on photos: photos (N,3,H,W) in [0,1]; mask (1,1,H,W), True where drawn; style (M,3,h,w)."""

    photos: Tensor | None = None
    mask: Tensor | None = None
    style: Tensor | None = None

    def of(self, pictures: Sequence[int]) -> Scene:
        """The scene of some pictures by their numbers: the photos cycle fastest, then the styles."""
        photos, style = self.photos, self.style
        photos = None if photos is None else photos[[i % len(photos) for i in pictures]]
        turn = 1 if self.photos is None else len(self.photos)
        style = None if style is None else style[[i // turn % len(style) for i in pictures]]
        return Scene(photos, self.mask, style)

    def __len__(self) -> int:
        """The number of combinations of photo and style."""
        return (1 if self.photos is None else len(self.photos)) * (1 if self.style is None else len(self.style))

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the photos; None without photos."""
        return None if self.photos is None else (self.photos.shape[-2], self.photos.shape[-1])


def find_scene(
    photo: Photo | None,
    mask: Any = None,
    box: Box | None = None,
    style: Photo | None = None,
    size: int | None = None,
) -> Scene:
    """Read photos, style and mask. size: pixels of the shorter side of the photo; None keeps its size.

    photo, style: an image file, a folder or parquet of pictures of one size, or what Python holds as pictures. With
    ``size`` those of a folder may be of several sizes: then they are squares, and mask and box are in their pixels.
    mask: an image of the photo's size, drawn where it is lighter than grey and not clear, or (H,W) of 0 and 1.
    box: left, top, right, bottom in pixels of the photo, drawn inside.
    """
    if photo is None:
        if mask is not None or box is not None:
            raise UserError("--mask and --box need a photo, and no PHOTO was given; type one")
        return Scene(style=None if style is None else read_photos(style, "style"))
    photos = read_photos(photo, "photo", size)
    if mask is not None and box is not None:
        raise UserError("--mask and --box exclude each other; type one of them")
    where = None
    if mask is not None or box is not None:
        raw = (_own_size(photo) if size else None) or (photos.shape[-2], photos.shape[-1])
        where = _box_mask(box, raw) if box is not None else _read_mask(mask, raw)
        where = _scaled_mask(where, (photos.shape[-2], photos.shape[-1]))
        if not where.any():
            raise UserError("the mask is empty: nothing would be drawn; make it white where the photo may change")
    return Scene(photos, where, None if style is None else read_photos(style, "style"))


def keep_scene(scene: Scene, run: Path) -> None:
    """Save photos, styles and mask in a run folder, for its report."""
    parts = {"photo": scene.photos, "style": scene.style}
    parts["mask"] = None if scene.mask is None else scene.mask.float().expand(1, 3, -1, -1)
    for what, part in parts.items():
        for index, image in enumerate(() if part is None else part):
            (run / PHOTOS).mkdir(exist_ok=True)
            replace_file(run / PHOTOS / f"{what}-{index:04d}.png", to_png(image))


def read_photos(photo: Photo, what: str, size: int | None = None) -> Tensor:
    """(N,3,H,W) in [0,1] of whatever ``pictures_of`` takes; its shorter side scaled to ``size``."""
    own = _own_size(photo) if size is not None and _are_files(photo) else None
    found = pictures_of(photo, what, size if own is None or size is None else _scaled(own, size)).float().cpu()
    high, wide = found.shape[-2:]
    if size is not None and min(high, wide) != size:
        drawn = _scaled((high, wide), size)
        each = SCALING * len(found) * max(high, wide) / min(high, wide)
        budget.check_memory(
            f"pictures of {drawn[1]}x{drawn[0]} pixels (the {what} of {wide}x{high} at --size {size})",
            each * size**2,
            lambda free: budget.within("--size", int((free / each) ** 0.5), f"cut the {what} to a squarer one"),
        )
        found = resize(found, drawn).clamp(0, 1)
    elif size is None and max(high, wide) > SIDE_AT_MOST:
        raise UserError(f"the {what} is {wide}x{high} pixels, more than {SIDE_AT_MOST} a side; type --size 512")
    return found


def _scaled(own: tuple[int, int], size: int) -> tuple[int, int]:
    """(height, width) with a shorter side of ``size``."""
    scale = size / min(own)
    return max(size, round(own[0] * scale)), max(size, round(own[1] * scale))


def _are_files(photo: Photo) -> bool:
    """Whether it is a folder or parquet, not one file or what Python holds."""
    path = at_home(photo) if isinstance(photo, str | Path) else Path()
    return isinstance(photo, str | Path) and (path.is_dir() or (path.is_file() and path.suffix.lower() == ".parquet"))


def _own_size(photo: Photo) -> tuple[int, int] | None:
    """Of the photos before they are scaled: a mask and a box are in their pixels. None of a folder of several sizes."""
    if not _are_files(photo):
        high, wide = pictures_of(photo, "photo").shape[-2:]
        return high, wide
    sizes: set[tuple[int, int]] = set()
    for image, _ in decoded(find_images(at_home(photo)).entries, None, str(photo), []):
        sizes.add((image.shape[0], image.shape[1]))
        if len(sizes) > 1:
            return None
    return next(iter(sizes))


def _box_mask(box: Box, size: tuple[int, int]) -> Tensor:
    high, wide = size
    if len(box) != 4:
        raise UserError(f"--box {' '.join(map(str, box))}: type LEFT TOP RIGHT BOTTOM in pixels")
    left, top, right, bottom = box
    if not (0 <= left < right <= wide and 0 <= top < bottom <= high):
        raise UserError(
            f"--box {left} {top} {right} {bottom} does not lie in the photo; type LEFT TOP RIGHT BOTTOM with "
            f"0 <= left < right <= {wide} and 0 <= top < bottom <= {high}"
        )
    mask = torch.zeros(1, 1, high, wide, dtype=torch.bool)
    mask[..., top:bottom, left:right] = True
    return mask


def _read_mask(mask: Any, size: tuple[int, int]) -> Tensor:
    if is_live(mask) and hasattr(mask, "ndim"):  # numbers: 0 and 1 of any type, in any of the shapes of one mask
        given = torch.zeros(0) if str(mask.dtype) in ("object", "str") else torch.as_tensor(mask)
        found = given.reshape(1, 1, *given.shape[-2:]) if given.numel() == given.shape[-2:].numel() else given
        found = found / 255 if found.dtype == torch.uint8 and found.numel() and int(found.max()) == 255 else found
        if found.ndim != 4 or not bool(((found == 0) | (found == 1)).all()):
            raise UserError(
                f"mask of shape {tuple(given.shape)} and {given.dtype}; give (H,W) of 0 (kept) and 1 (drawn), or bytes "
                "of 0 and 255"
            )
        found = found.bool()
    else:
        found = pictures_of(mask, "mask", behind=BLACK).mean(1, keepdim=True) > 0.5
    if len(found) != 1:
        raise UserError(f"{len(found)} masks were given; give one, which holds for every photo")
    if tuple(found.shape) != (1, 1, *size):
        raise UserError(
            f"the mask is {found.shape[-1]}x{found.shape[-2]} pixels and the photo {size[1]}x{size[0]}; "
            "make it of the photo's size, white where the photo may change"
        )
    return found


def _scaled_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask at the drawn size; pixels partly inside are drawn."""
    if tuple(mask.shape[-2:]) == size:
        return mask
    return resize(mask.float(), size) > 1e-3
