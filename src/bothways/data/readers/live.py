"""What Python holds as pictures -> (B,3,H,W), float in [0,1]: of PIL, numpy or torch, of a result, or a list.

PIL          turned upright; of any mode
numpy        (H,W), (H,W,C), (B,H,W,C), else channels first
torch        (H,W), (C,H,W), (B,C,H,W), else channels last;      C = 1 (grey), 3, or 4 (RGB and alpha)
alpha        on white (transparent.py)
images       what has a tensor of this name, such as a Result
numbers      floats in [0,1]; bytes and other whole numbers 0..255; 16 bits without a sign 0..65535; False and True
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bothways.data.readers.decoding import as_rgb
from bothways.data.readers.transparent import WHITE, opaque_pixels
from bothways.types import UserError

CHANNELS = (1, 3, 4)
GIVE = "give (3,H,W) or (B,3,H,W), floats in [0, 1] or bytes"
BEYOND = 1e-3  # what rounding may add to [0, 1]
FAR_BEYOND = 0.5  # what a picture that a network made may; pictures in other units are further out


def is_live(given: Any) -> bool:
    """Whether it is held by Python, and no address."""
    return given is not None and not isinstance(given, str) and not hasattr(given, "__fspath__")


def tensor_of(given: Any, what: str, *, unclamped: bool = False, behind: int = WHITE) -> Tensor:
    """(B,3,H,W) float in [0,1]; a tensor of floats keeps its precision, its device and its gradient.

    what: the name of what was given, for the message. unclamped: pictures that a network made, which may be a little
    outside. behind: the grey level behind what is clear. Raises UserError for another type, shape or range, with what
    to give.
    """
    if isinstance(held := getattr(given, "images", None), Tensor):  # of a set, or of a result
        given = held
    if given is not None and not is_live(given):  # one of a list
        raise UserError(f"{what} is a list of paths; give the folder that holds them, or PIL.Image.open(path) of each")
    if isinstance(given, list | tuple):
        return _together([tensor_of(one, what, unclamped=unclamped, behind=behind) for one in given], what)
    if isinstance(given, Image.Image):
        try:
            given = np.array(as_rgb(given, behind))
        except Exception as error:  # one that is read from its file now may be damaged
            said = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{what}: the picture of PIL cannot be read: {said}") from error
    if isinstance(given, np.ndarray):
        return opaque_pixels(_in_range(_in_shape(_of_numpy(given, what), what, last=True), what, unclamped), behind)
    if not isinstance(given, Tensor):
        raise UserError(f"{what} is a {type(given).__name__}; {GIVE}, a path, or a picture of PIL")
    return opaque_pixels(_in_range(_in_shape(given, what, last=False), what, unclamped), behind)


def _together(parts: list[Tensor], what: str) -> Tensor:
    if not parts:
        raise UserError(f"{what} is an empty list; {GIVE}")
    shapes = list(dict.fromkeys(tuple(part.shape[-2:]) for part in parts))
    if len(shapes) > 1:
        sizes = ", ".join(f"{high}x{wide}" for high, wide in shapes[:3])
        raise UserError(f"{what} has pictures of {len(shapes)} sizes ({sizes}); give pictures of one size")
    return torch.cat([part.float() for part in parts]) if len(parts) > 1 else parts[0]


def _of_numpy(given: np.ndarray, what: str) -> Tensor:
    if given.dtype == np.uint16:
        return torch.from_numpy(given.astype(np.float32) / 65535)
    if given.dtype.kind not in "biuf":
        raise UserError(f"{what} is an array of {given.dtype}; {GIVE}")
    if given.dtype.kind == "f":  # numpy's doubles are seldom meant
        return torch.from_numpy(np.ascontiguousarray(given, np.float32))
    return torch.from_numpy(np.ascontiguousarray(given.astype(given.dtype.newbyteorder("="))))


def _in_shape(given: Tensor, what: str, *, last: bool) -> Tensor:
    """(B,C,H,W) of what has its channels last or first; where both can be, ``last`` says."""
    shape = tuple(given.shape)
    found = given[None, None] if given.ndim == 2 else given[None] if given.ndim == 3 else given
    first, final = found.ndim == 4 and found.shape[1] in CHANNELS, found.ndim == 4 and found.shape[3] in CHANNELS
    if not (first or final) or 0 in shape:
        raise UserError(f"{what} of shape {shape} and {given.dtype}; {GIVE}")
    return found.permute(0, 3, 1, 2) if given.ndim > 2 and final and (last or not first) else found


def _in_range(found: Tensor, what: str, unclamped: bool) -> Tensor:
    if found.dtype == torch.bool:
        return found.float()
    if found.is_complex():
        raise UserError(f"{what} is of {found.dtype}; {GIVE}")
    try:
        low, high = float(found.detach().amin()), float(found.detach().amax())
    except RuntimeError:  # inside a transform of torch.func a number has no value
        return found
    if not found.is_floating_point():
        if low < 0 or high > 255:
            raise UserError(f"{what} holds whole numbers from {low:.0f} to {high:.0f}; {GIVE}")
        if found.dtype != torch.uint8:
            warnings.warn(f"{what}: whole numbers ({found.dtype}) are taken as 0 to 255", stacklevel=3)
        return found.float() / 255
    beyond = FAR_BEYOND if unclamped else BEYOND
    if not (low >= -beyond and high <= 1 + beyond):
        raise UserError(f"{what} holds numbers from {low:g} to {high:g}; {_cure(low, high)}")
    return found if unclamped or (low >= 0 and high <= 1) else found.clamp(0, 1)


def _cure(low: float, high: float) -> str:
    if -1 - BEYOND <= low < 0 and high <= 1 + BEYOND:
        return "pictures are in [0, 1], so give (x + 1) / 2"
    if low >= 0 and high <= 255:
        return "pictures are in [0, 1], so give x / 255"
    return "pictures are in [0, 1]; undo what was subtracted and divided"
