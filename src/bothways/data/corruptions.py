"""Ways to take a picture away from the real ones, by a known amount: a table of kinds.

    noise       x + level * N(0, 1)                                level in units of the [0, 1] image
    blur        x * Gaussian of standard deviation level           level in pixels at 32 pixels, scaled with the picture
    grey        (1 - level) x + level / 2                          level 1: constant grey, below it: less contrast
    shuffled    a share ``level`` of the positions is permuted     level 1: every pixel elsewhere, the same colours

A picture's draws are its own: the same noise at every level, and the same in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.types import UserError

BLUR_SIDE = 32  # pixels of the shorter side that the level of a blur is stated for
BLUR_REACH = 4.0  # standard deviations after which the Gaussian is cut, as scipy.ndimage does


def _noise(images: Tensor, level: float, draws: Draws) -> Tensor:
    return images + level * draws.normal(images.shape[1:], purpose="corruption noise").to(images)


def _blur(images: Tensor, level: float, _draws: Draws) -> Tensor:
    sigma = level * min(images.shape[-2:]) / BLUR_SIDE
    if sigma == 0:
        return images
    reach = math.floor(BLUR_REACH * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights[..., None, :], groups=images.shape[1])
    return F.conv2d(rows, weights[..., None], groups=images.shape[1])


def _grey(images: Tensor, level: float, _draws: Draws) -> Tensor:
    return images.lerp(torch.full_like(images, 0.5), level)


def _shuffled(images: Tensor, level: float, draws: Draws) -> Tensor:
    height, width = images.shape[-2:]
    order = draws.uniform((height * width,), purpose="corruption positions").argsort(1)
    places = order[:, : round(level * height * width)]
    goal = places.gather(1, draws.uniform((places.shape[1],), purpose="corruption order").argsort(1))
    taken = torch.arange(height * width).repeat(len(draws), 1).scatter(1, goal, places)
    taken = taken[:, None].expand(-1, images.shape[1], -1).to(images.device)
    return images.flatten(2).gather(2, taken).view_as(images)


KINDS: dict[str, Callable[[Tensor, float, Draws], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "grey": _grey,
    "shuffled": _shuffled,
}
SHARES = ("grey", "shuffled")  # kinds whose level is a share


def corrupt(images: Tensor, kind: str, level: float, draws: Draws, *, clip: bool = True) -> Tensor:
    """(B,3,H,W) -> the same shape, corrupted by a kind of ``KINDS``.

    draws: one seed a picture. clip: keep the result in [0, 1]; without it noise stays Gaussian.
    Raises UserError for an unknown kind, a level that cannot be, or a wrong number of seeds.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=3, cutoff=0.4) or list(KINDS)
        raise UserError(f"corruption {kind!r} is not known; type {', '.join(near)}")
    if not 0 <= level <= (1 if kind in SHARES else math.inf):
        raise UserError(f"corruption {kind!r}: level {level} cannot be; type 0 or more, and at most 1 for a share")
    if len(draws) != len(images):
        raise UserError(f"corruption {kind!r}: {len(images)} pictures and {len(draws)} seeds; give one seed a picture")
    found = KINDS[kind](images, level, draws)
    return found.clamp(0, 1) if clip else found
