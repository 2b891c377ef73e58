"""Image corruptions with a level, and five severities of eight of them.

    noise       x + level * N(0, 1)                                level in units of the [0, 1] image
    blur        x * Gaussian of standard deviation level           level in pixels at 32 pixels, scaled with the picture
    grey        (1 - level) x + level / 2                          level 1: constant grey, below it: less contrast
    shuffled    a share ``level`` of the positions is permuted     level 1: all pixels permuted, the same colours
    brightness  x v' / v,  v' = min(v + level, 1)                  v: the largest channel of a pixel, the V of HSV
    contrast    (1 - level) x + level m                            m: the mean of each channel of the picture
    pixelate    to (1 - level) of its sides and back, by boxes     in 8 bits
    jpeg        JPEG at quality 100 (1 - level)                    in 8 bits
    fog         (x + level p) m / (m + level)                      p: a plasma in [0, 1], m: the largest value of x
    roll        rolled down and right by a share of the sides      what leaves on one side comes in on the other

Random draws belong to the picture: the same noise at every level and in any batch.

``SEVERITIES`` are five levels of six kinds, those of CIFAR-10-C; ``MORE`` has fog's, as there, and roll's, which is not
of that set. Pictures corrupted with them are NOT CIFAR-10-C: most of its 19 corruptions are missing and the noise
differs, so the numbers compare models on the same pictures and are not comparable with published ones.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.types import UserError

BLUR_SIDE = 32  # pixels of the shorter side at which the level of a blur is defined
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


def _brightness(images: Tensor, level: float, _draws: Draws) -> Tensor:
    value = images.amax(1, keepdim=True)
    brighter = (value + level).clamp(max=1)
    # black has no hue: all channels are raised alike, to grey
    return torch.where(value > 0, images * (brighter / value.clamp_min(1e-12)), brighter)


def _contrast(images: Tensor, level: float, _draws: Draws) -> Tensor:
    return images.lerp(images.mean((-2, -1), keepdim=True).expand_as(images), level)


def _pixelate(images: Tensor, level: float, _draws: Draws) -> Tensor:
    def change(picture: Image.Image) -> Image.Image:
        small = [max(1, int(side * (1 - level))) for side in picture.size]
        return picture.resize((small[0], small[1]), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

    return _each(images, level, change)


def _jpeg(images: Tensor, level: float, _draws: Draws) -> Tensor:
    def change(picture: Image.Image) -> Image.Image:
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=max(1, round(100 * (1 - level))))
        return Image.open(written)

    return _each(images, level, change)


FOGS = ((0.2, 0.5, 0.75, 1.0, 1.5), (3.0, 3.0, 2.5, 2.0, 1.75))  # levels of CIFAR-10-C, and how fast its details fade


def _fog(images: Tensor, level: float, draws: Draws) -> Tensor:
    if level == 0:
        return images
    high, wide = images.shape[-2:]
    fog = _plasma(draws, max(high, wide), float(np.interp(level, *FOGS)))[:, None, :high, :wide].to(images)
    most = images.amax((1, 2, 3), keepdim=True)
    return (images + level * fog) * (most / (most + level))


def _plasma(draws: Draws, side: int, decay: float) -> Tensor:
    """A cloud (B,S,S) in [0, 1] by midpoints on a torus, S the power of two from ``side`` on (diamond-square)."""
    size = 2 << max(0, (side - 1).bit_length() - 1)
    field, reach, step = torch.zeros(len(draws), size, size, dtype=torch.float64), 100.0, size

    def shaken(total: Tensor, place: str) -> Tensor:
        signs = 2 * draws.uniform(tuple(total.shape[1:]), purpose=f"corruption fog {step} {place}").double() - 1
        return total / 4 + reach**2 * signs

    while step > 1:
        half = step // 2
        corners = field[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        field[:, half::step, half::step] = shaken(rows + rows.roll(-1, 2), "middle")
        middles = field[:, half::step, half::step]
        across, down = (middles + middles.roll(1, axis) + corners + corners.roll(-1, 3 - axis) for axis in (1, 2))
        field[:, ::step, half::step] = shaken(across, "across")
        field[:, half::step, ::step] = shaken(down, "down")
        step, reach = half, reach / decay
    field -= field.amin((1, 2), keepdim=True)
    return field / field.amax((1, 2), keepdim=True)


def _roll(images: Tensor, level: float, _draws: Draws) -> Tensor:
    return images.roll([round(level * side) for side in images.shape[-2:]], (-2, -1))


def _each(images: Tensor, level: float, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Apply a PIL operation to each picture in 8 bits; level 0 is the identity."""
    if level == 0:
        return images
    pixels = (255 * images.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    changed = np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pixels])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).to(images) / 255


KINDS: dict[str, Callable[[Tensor, float, Draws], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "grey": _grey,
    "shuffled": _shuffled,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
    "fog": _fog,
    "roll": _roll,
}
SHARES = ("grey", "shuffled", "contrast", "pixelate", "jpeg", "roll")  # kinds whose level is a share

# For 32 pixels: Hendrycks & Dietterich 2019 (arXiv 1903.12261), the code that made CIFAR-10-C, where these are called
# gaussian_noise, gaussian_blur, brightness, contrast, pixelate and jpeg_compression; a share counts what is taken away.
SEVERITIES: dict[str, tuple[float, ...]] = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.25, 0.5, 0.6, 0.7, 0.85),
    "pixelate": (0.05, 0.1, 0.15, 0.25, 0.35),
    "jpeg": (0.2, 0.35, 0.42, 0.5, 0.6),
}

MORE: dict[str, tuple[float, ...]] = {"fog": FOGS[0], "roll": (0.03125, 0.0625, 0.125, 0.25, 0.5)}


def corrupt(images: Tensor, kind: str, level: float, draws: Draws, *, clip: bool = True) -> Tensor:
    """Corrupt images by a kind of ``KINDS`` at a level, (B,3,H,W) -> the same shape.

    draws: one seed per picture. clip: clamp the result to [0, 1]; without it noise stays Gaussian.
    Raises UserError for an unknown kind, an invalid level, or a wrong number of seeds.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=3, cutoff=0.4) or list(KINDS)
        raise UserError(f"corruption {kind!r} is not known; type {', '.join(near)}")
    if not 0 <= level <= (1 if kind in SHARES else math.inf):
        raise UserError(f"corruption {kind!r}: level {level} is invalid; type 0 or more, and at most 1 for a share")
    if len(draws) != len(images):
        raise UserError(f"corruption {kind!r}: {len(images)} pictures and {len(draws)} seeds; give one seed a picture")
    found = KINDS[kind](images, level, draws)
    return found.clamp(0, 1) if clip else found
