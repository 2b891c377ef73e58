"""Shuffled and augmented training batches as a pure function of the step, so that a resume needs no loader state.

The order of epoch e is a permutation drawn from (seed, e); the augmentation of step k is drawn from (seed, k).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.data.rows.stored import StoredSet
from bothways.data.sources import ImageSet
from bothways.numerics.draws import generator
from bothways.types import UserError

Batch = tuple[Tensor, Tensor]
WRITTEN = re.compile(r"[0-9A-Za-z]|[0-9] - \w+")  # the name of a class that is a written character
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(B,3,H,W) float in [0,1] -> the same shape and range, with the random generator of a step."""


@dataclass(frozen=True)
class Augmentation:
    """Standard augmentation: crop after reflection padding, flip, blur, noise and a grey square.

    crop: padding, as ``length`` reads it. flip: mirror half of the pictures. blur, noise: share of the pictures with a
    3x3 mean, or with Gaussian noise of at most ``noise_level``. erase: side of a grey square, 0 for none. The draws are
    made on the CPU, whatever the device of the pictures, so that they are the same on each.
    """

    crop: float = 4
    flip: bool = True
    blur: float = 0.0
    noise: float = 0.0
    noise_level: float = 0.1
    erase: int = 0

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        """Augment a batch, (B,3,H,W) float in [0,1] -> the same shape."""
        if crop := length(self.crop, images):
            images = _random_crop(images, crop, source)
        if self.flip:
            images = torch.where(_chosen(images, 0.5, source), images.flip(-1), images)
        if self.blur:
            blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
            images = torch.where(_chosen(images, self.blur, source), blurred, images)
        if self.noise:
            level = self.noise_level * torch.rand(len(images), 1, 1, 1, generator=source)
            noisy = (images + (level * torch.randn(images.shape, generator=source)).to(images.device)).clamp(0, 1)
            images = torch.where(_chosen(images, self.noise, source), noisy, images)
        if self.erase:
            images = _random_erase(images, self.erase, source)
        return images


def length(given: float, images: Tensor) -> int:
    """A length in pixels; one below 1 is a share of the shorter side of the pictures (...,H,W)."""
    return round(given * min(images.shape[-2:]) if given < 1 else given)


def check_crop(crop: float, height: int, width: int) -> None:
    """Raise ValueError for a crop that leaves nothing of the pictures."""
    if not 0 <= crop < min(height, width):
        raise ValueError(f"crop = {crop:g} is not from 0 to less than the side of {min(height, width)} pixels")


def survive_mirroring(classes: Sequence[str] | int) -> bool:
    """Whether a mirrored picture keeps its class: not a digit or a letter, by the names of the classes.

    Classes called 0 to 9, A to Z, or "7 - seven" are taken for such; there are at most 62 of them.
    """
    names = () if isinstance(classes, int) else tuple(classes)
    return not names or not all(WRITTEN.fullmatch(name.strip()) for name in names)


def batches(
    data: ImageSet | StoredSet, size: int, seed: int, augmentation: Augment, rank: int = 0, count: int = 1
) -> Callable[[int], Batch]:
    """Batch function step -> (images (B,3,H,W) in [0,1], labels (B,)); a last partial batch of an epoch is dropped.

    Latents (B,C,h,w) come as they are. rank, count: of this process among several: the rows [rank::count] of the same
    batch, without decoding the others. The function is picklable. Raises UserError if the data do not fill one batch.
    """
    if size > len(data):
        raise UserError(f"a batch of {size} is more than the {len(data)} pictures of the data; give a smaller batch")

    return partial(_batch, data, size, seed, augmentation, rank, count)


def _batch(
    data: ImageSet | StoredSet, size: int, seed: int, augmentation: Augment, rank: int, count: int, step: int
) -> Batch:
    epoch, place = divmod(step, len(data) // size)
    images, labels = data.sample(data.order(seed, epoch), place * size, size, rank, count)
    if not images.is_floating_point():  # latents are taken as they are
        images = augmentation(images.float() / 255, generator(seed, step, "augmentation"))
    return images[rank::count], labels[rank::count]


def _chosen(images: Tensor, share: float, source: torch.Generator) -> Tensor:
    return (torch.rand(len(images), 1, 1, 1, generator=source) < share).to(images.device)


def _random_crop(images: Tensor, pad: int, source: torch.Generator) -> Tensor:
    batch, _, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad), mode="reflect")
    top, left = torch.randint(0, 2 * pad + 1, (2, batch, 1), generator=source).to(images.device)
    rows = (top + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (left + torch.arange(width, device=images.device))[:, None, None, :]
    picture = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(3, device=images.device)[None, :, None, None]
    return padded[picture, channel, rows, columns]


def _random_erase(images: Tensor, side: int, source: torch.Generator) -> Tensor:
    batch, _, height, width = images.shape
    top = torch.randint(1 - side, height, (batch, 1, 1, 1), generator=source)
    left = torch.randint(1 - side, width, (batch, 1, 1, 1), generator=source)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return torch.where(inside.to(images.device), torch.full_like(images, 0.5), images)
