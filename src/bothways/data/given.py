"""Whatever is given as a picture or as pictures, an address or a live object -> (B,3,H,W), float in [0,1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bothways.brief import brief
from bothways.data.readers.decoding import SUFFIXES, decode_image
from bothways.data.readers.fit import Size, fitted, height_width
from bothways.data.readers.live import is_live, tensor_of
from bothways.data.readers.transparent import WHITE
from bothways.data.sources import ImageSet, load_images
from bothways.reading import at_home, is_folder, is_there, read_bytes
from bothways.types import UserError


def pictures_of(
    given: Any, what: str, size: Size | None = None, *, unclamped: bool = False, behind: int = WHITE
) -> Tensor:
    """(B,3,H,W) float in [0,1] of an image file, a folder or parquet of them, or what ``tensor_of`` takes.

    what: the name of what was given, for the message. size: of pictures in files of different sizes, as for
    ``load_images``; a live object and a single file keep their own. unclamped: as for ``tensor_of``.
    behind: the grey level behind what is clear in one file or live object.
    Raises UserError for what is no picture.
    """
    if isinstance(given, ImageSet):
        return given.floats()
    if isinstance(given, list | tuple) and any(not is_live(one) for one in given):
        return tensor_of([pictures_of(one, what, size, behind=behind) for one in given], what)
    if is_live(given):
        return tensor_of(given, what, unclamped=unclamped, behind=behind)
    if not isinstance(given, str | Path):
        raise UserError(f"{what} is {brief(given)}; type the path of an image file or a folder, or give (B,3,H,W)")
    path = at_home(given)
    if not is_folder(path) and is_there(path) and path.suffix.lower() in SUFFIXES:
        try:
            pixels = decode_image(read_bytes(path), behind=behind)
        except (OSError, ValueError) as error:
            raise UserError(f"{what} {str(path)!r} cannot be read: {error}") from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    if not path.exists():
        raise UserError(f"{what} {str(path)!r} does not exist; type the path of an image file or a folder of them")
    if path.is_file() and path.suffix.lower() != ".parquet":
        known = ", ".join(sorted(SUFFIXES))
        raise UserError(f"{what} {str(path)!r} is no picture that can be read; type a file of {known}")
    return load_images(path, size=size).floats()


def fitted_pictures(images: Tensor, size: Size) -> Tensor:
    """(B,3,H,W) in [0,1] at a size, rounded to 8 bits: the shorter side resized to it and the centre cut out."""
    if tuple(images.shape[-2:]) == height_width(size):
        return images
    pixels = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in (255 * images).round().byte()]
    return torch.from_numpy(np.stack([fitted(one, size) for one in pixels])).permute(0, 3, 1, 2).float() / 255
