"""Read uploaded pictures, with limits on bytes and pixels.

The size in pixels is read from the header, before the picture is decoded.
"""

from __future__ import annotations

import base64
from pathlib import Path
from stat import S_ISREG

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bothways.data.readers.decoding import as_rgb
from bothways.data.readers.fit import bytes_beside
from bothways.opening import check_size, opened
from bothways.types import UserError

BYTES_AT_MOST = 20_000_000
PIXELS_AT_MOST = 40_000_000
SIDE_AT_MOST = 512  # pixels of the longer side; larger photos are shrunk, since a photo is drawn at its own size
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
HINT = "choose a PNG, JPEG, WebP or BMP file"


def read_upload(path: str | Path) -> Tensor:
    """Read a picture: (3,H,W) in [0,1], upright, no side longer than SIDE_AT_MOST. Raises UserError."""
    path = Path(path)
    facts = path.lstat()
    if not S_ISREG(facts.st_mode):  # a link may lead anywhere, and a pipe never ends
        raise UserError(f"{path.name} is no plain file; {HINT}")
    size = facts.st_size
    if size > BYTES_AT_MOST:
        raise UserError(f"{path.name} has {size / 1e6:.1f} MB, more than {BYTES_AT_MOST / 1e6:.0f} MB; {HINT}")
    return _decoded(path.read_bytes(), path.name)


def _decoded(content: bytes, name: str) -> Tensor:
    try:
        with opened(content, FORMATS, PIXELS_AT_MOST) as found:
            check_size(found, PIXELS_AT_MOST, bytes_beside(found.size, None))
            found.draft("RGB", (SIDE_AT_MOST, SIDE_AT_MOST))
            picture = as_rgb(found)
    except ValueError as error:
        told = str(error)
        if "pixels" not in told:  # the words of a decoder
            raise UserError(f"{name} cannot be read as a picture; {HINT}") from error
        raise UserError(f"{name}: {told}; choose a smaller picture") from error
    picture.thumbnail((SIDE_AT_MOST, SIDE_AT_MOST), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def read_mask(data_url: str, size: tuple[int, int]) -> Tensor | None:
    """Read the painted mask from the data URL of the canvas: (H,W), 1 where painted; None if nothing is painted.

    size: (height, width) of the photo. Raises UserError if the canvas does not fit.
    """
    head, comma, body = data_url.partition(",")
    try:
        if head != "data:image/png;base64" or not comma or len(body) > BYTES_AT_MOST:
            raise ValueError(head)
        with opened(base64.b64decode(body, validate=True), ("PNG",), PIXELS_AT_MOST) as canvas:
            if (canvas.height, canvas.width) != size:
                raise ValueError(f"{canvas.size}")
            painted = np.asarray(canvas.convert("RGBA"))[..., 3] > 127
    except Exception as error:
        raise UserError("the painted mask does not fit the photo; choose the photo and paint the mask again") from error
    return torch.from_numpy(painted.astype(np.float32)) if painted.any() else None
