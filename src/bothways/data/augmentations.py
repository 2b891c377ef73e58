"""Strong augmentation for training classifiers: RandAugment and random erasing, drawn per image.

    x <- op_n(.. op_1(x)),  each op uniform over ``OPERATIONS``, applied with probability 1/2, magnitude m + N(0, 1/2)
                                                  RandAugment, Cubuk et al. 2019, arXiv 1909.13719; n = 2, m of 0..10
    x <- noise inside a rectangle of 2 to 33 % of the picture, with probability p
                                                  Zhong et al. 2017, arXiv 1708.04896

The operations and the scale of the magnitude are those of timm's "rand-m9-mstd0.5-inc1" (increasing severity), the
recipe of PRG (arXiv 2412.01787, app. B); colour operations are PIL's, on integers 0..255. Departures: pixels from
outside the picture are grey, not the mean of a data set; posterising keeps at least one bit; the rectangle is filled
with U[0, 1), so that pictures stay in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.data.images import Augment, Augmentation
from bothways.types import UserError

STRONGEST = 10.0
SPREAD = 0.5  # of the strength, standard deviation
CHANCE = 0.5  # probability that a drawn operation is applied
GREY = (0.299, 0.587, 0.114)  # of R, G, B (ITU-R BT.601), as PIL has it
ERASED = (0.02, 1 / 3)  # share of the picture that a rectangle takes
ASPECT = 0.3  # least ratio of a rectangle's sides

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""images (n,3,H,W) of integers 0..255, strength (n,) in 0..1, sign (n,) -> the same shape"""


@dataclass(frozen=True)
class StrongAugmentation:
    """Crop, flip, RandAugment, then random erasing; each is disabled by 0 or False.

    crop: padding, in pixels, or as a share of the side below 1. flip: mirror half of the pictures. strength: magnitude
    m of RandAugment, up to 10. operations: number n of RandAugment. erase: probability of a rectangle. The result is in
    [0, 1].
    Raises UserError for a strength outside 0..10 and a probability outside 0..1.
    """

    crop: float = 4
    flip: bool = True
    strength: float = 9.0
    operations: int = 2
    erase: float = 0.25

    def __post_init__(self) -> None:
        if not (0 <= self.strength <= STRONGEST and 0 <= self.erase <= 1 and self.operations >= 0 and self.crop >= 0):
            raise UserError(
                f"augmentation: strength={self.strength}, operations={self.operations}, erase={self.erase}, "
                f"crop={self.crop}; type a strength of 0 to 10, an erase of 0 to 1, and no negative number"
            )

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        """Augment a batch, (B,3,H,W) float in [0,1] -> the same shape and range."""
        images = Augmentation(crop=self.crop, flip=self.flip)(images, source)
        if self.strength:
            images = rand_augment(images, self.strength, self.operations, source)
        return random_erase(images, self.erase, source) if self.erase else images


@dataclass(frozen=True)
class _Then:
    """One augmentation after another; a class, so that it can be sent to a process."""

    first: Augment
    second: Augment

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        return self.second(self.first(images, source), source)


def with_strong(*, strength: float, operations: int, erase_chance: float, **plain: Any) -> Augment:
    """The plain ``Augmentation`` of those settings, then RandAugment and random erasing, if there are any.

    Raises UserError for invalid settings, as ``StrongAugmentation``.
    """
    strong = StrongAugmentation(crop=0, flip=False, strength=strength, operations=operations, erase=erase_chance)
    first = Augmentation(**plain)
    return _Then(first, strong) if strength or erase_chance else first


def rand_augment(images: Tensor, strength: float, operations: int, source: torch.Generator) -> Tensor:
    """RandAugment: ``operations`` random ``OPERATIONS`` in sequence per image, (B,3,H,W) in [0,1] -> the same."""
    batch, changed = len(images), (images * 255).round()
    for _ in range(operations):
        drawn = torch.randint(len(OPERATIONS), (batch,), generator=source)
        done = torch.rand(batch, generator=source) < CHANCE
        level = (strength + SPREAD * torch.randn(batch, generator=source)).clamp(0, STRONGEST) / STRONGEST
        sign = torch.where(torch.rand(batch, generator=source) < 0.5, -1.0, 1.0)
        after = changed.clone()
        for number, operation in enumerate(OPERATIONS.values()):
            rows = ((drawn == number) & done).nonzero()[:, 0]
            if len(rows):
                after[rows] = operation(changed[rows], level[rows], sign[rows]).clamp(0, 255).round()
        changed = after
    return changed / 255


def random_erase(images: Tensor, chance: float, source: torch.Generator) -> Tensor:
    """Random erasing: a rectangle of noise U[0, 1) in each image with probability ``chance``, (B,3,H,W) -> the same."""
    batch, _, height, width = images.shape
    done = torch.rand(batch, 1, 1, 1, generator=source) < chance
    least, most = ERASED
    area = (least + (most - least) * torch.rand(batch, generator=source)) * height * width
    ratio = torch.exp(math.log(ASPECT) * (1 - 2 * torch.rand(batch, generator=source)))
    tall = (area * ratio).sqrt().round().clamp(1, height).view(-1, 1, 1, 1)
    wide = (area / ratio).sqrt().round().clamp(1, width).view(-1, 1, 1, 1)
    corner = torch.rand(2, batch, 1, 1, 1, generator=source)
    top, left = ((corner[0] * (height - tall + 1)).floor(), (corner[1] * (width - wide + 1)).floor())
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    return torch.where(inside & done, torch.rand(images.shape, generator=source), images)


# ---- operations on images of integers 0..255; results are rounded by the caller ------------------------------------


def _by(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)


def _blended(images: Tensor, other: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """other + factor (images - other), factor 0.1 to 1.9: PIL's ImageEnhance."""
    factor = (1 + 0.9 * level * sign).clamp_min(0.1)
    return (other + _by(factor) * (images - other)).clamp(0, 255).floor()


def _grey(images: Tensor) -> Tensor:
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(GREY))[:, None].round()


def colour(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, _grey(images), level, sign)


def contrast(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, (_grey(images).mean((1, 2, 3), keepdim=True) + 0.5).floor(), level, sign)


def brightness(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, torch.zeros_like(images), level, sign)


def sharpness(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Blend with a 3 x 3 smoothing whose centre has weight 5; the border is unchanged."""
    kernel = images.new_ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    smooth = images.clone()
    if min(images.shape[-2:]) > 2:
        smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel / 13, groups=3).round()
    return _blended(images, smooth, level, sign)


def posterize(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keep the upper 4 - floor(4 level) bits, at least one."""
    step = _by(2.0 ** (8 - (4 - (4 * level).floor()).clamp_min(1)))
    return (images / step).floor() * step


def solarize(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Invert values of at least 256 - 256 level."""
    return torch.where(images < _by(256 - (256 * level).floor()), images, 255 - images)


def solarize_add(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Add up to 110 to values below 128."""
    return torch.where(images < 128, (images + _by((110 * level).floor())).clamp_max(255), images)


def invert(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return 255 - images


def autocontrast(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a constant channel is unchanged."""
    low, high = (f(images, (2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    stretched = ((images - low) * (255 / (high - low).clamp_min(1))).floor()
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Histogram equalisation of each channel, by PIL's lookup table."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.long).scatter_add_(2, flat, torch.ones_like(flat))
    last = flat.amax(2, keepdim=True)
    step = (flat.shape[2] - counts.gather(2, last)) // 255
    table = (step // 2 + counts.cumsum(2) - counts) // step.clamp_min(1)
    spread = table.clamp_max(255).gather(2, flat).view(images.shape).to(images)
    return torch.where(step[..., None] > 0, spread, images)


def _moved(images: Tensor, matrix: Tensor) -> Tensor:
    """Affine warp by matrix (n,2,3): output pixel -> source position, in pixels from the centre; outside is grey."""
    height, width = images.shape[-2:]
    unit = images.new_tensor([width / 2, height / 2])  # affine_grid uses coordinates in [-1, 1]
    scaled = torch.cat([matrix[..., :2] * unit / unit[:, None], matrix[..., 2:] / unit[:, None]], 2)
    grid = F.affine_grid(scaled, list(images.shape), align_corners=False)
    return F.grid_sample(images - 128, grid, align_corners=False) + 128


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b, c], 1), torch.stack([d, e, f], 1)], 1)


def rotate(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotate by up to 30 degrees about the centre."""
    angle, zero = sign * level * math.radians(30), torch.zeros_like(level)
    return _moved(images, _matrix(angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero))


def shear_x(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shear: x is sampled at x + s y, s up to 0.3, about the upper left corner."""
    zero, one, shear = torch.zeros_like(level), torch.ones_like(level), 0.3 * level * sign
    return _moved(images, _matrix(one, shear, shear * images.shape[-2] / 2, zero, one, zero))


def shear_y(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    zero, one, shear = torch.zeros_like(level), torch.ones_like(level), 0.3 * level * sign
    return _moved(images, _matrix(one, zero, zero, shear, one, shear * images.shape[-1] / 2))


def translate_x(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Translate by up to 45 % of the width."""
    zero, one = torch.zeros_like(level), torch.ones_like(level)
    return _moved(images, _matrix(one, zero, 0.45 * level * sign * images.shape[-1], zero, one, zero))


def translate_y(images: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    zero, one = torch.zeros_like(level), torch.ones_like(level)
    return _moved(images, _matrix(one, zero, zero, zero, one, 0.45 * level * sign * images.shape[-2]))


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        autocontrast, equalize, invert, rotate, posterize, solarize, solarize_add, colour, contrast, brightness,
        sharpness, shear_x, shear_y, translate_x, translate_y,
    )
}  # fmt: skip
