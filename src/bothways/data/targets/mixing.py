"""Mixing of the pictures of a batch with each other, and of their targets: mixup and cutmix.

mixup    x <- l x + (1 - l) x_p,   y <- l y + (1 - l) y_p,   l ~ Beta(a, a), p a permutation
                                                             Zhang et al. 2018, arXiv 1710.09412
cutmix   a rectangle of x <- that of x_p, of area 1 - l;  y as above, with the area that the rectangle has
                                                             Yun et al. 2019, arXiv 1905.04899

One l and one p for a batch. Where both are on, each is drawn for half of the batches, as in timm.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import generator

EITHER = 0.5  # probability of cutmix where both are on


def mixed(
    images: Tensor, targets: Tensor, seed: int, step: int, mixup: float, cutmix: float, classes: int
) -> tuple[Tensor, Tensor]:
    """Pictures (B,C,H,W) and their targets, (B,) classes or (B,K) -> mixed ones and targets (B,K), by (seed, step).

    mixup, cutmix: a of Beta(a, a), 0 for none.
    """
    if not (mixup or cutmix):
        return images, targets
    hot = F.one_hot(targets, classes).to(images.dtype) if targets.ndim == 1 else targets
    source = generator(seed, step, "mix")
    cuts = bool(cutmix) and (not mixup or float(torch.rand((), generator=source)) < EITHER)
    order = torch.randperm(len(images), generator=source)
    concentration = cutmix if cuts else mixup
    share = np.random.default_rng(source.initial_seed()).beta(concentration, concentration)
    if not cuts:
        return torch.lerp(images[order], images, share), torch.lerp(hot[order], hot, share)
    height, width = images.shape[-2:]
    high, wide = (round(side * math.sqrt(1 - share)) for side in (height, width))
    top, left = (int(torch.randint(0, most + 1, (), generator=source)) for most in (height - high, width - wide))
    pasted = images.clone()
    pasted[..., top : top + high, left : left + wide] = images[order][..., top : top + high, left : left + wide]
    return pasted, torch.lerp(hot[order], hot, 1 - high * wide / (height * width))
