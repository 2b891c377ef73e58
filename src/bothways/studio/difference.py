"""The difference of a photo before and after: 8-bit pixels that changed, and how many lie outside the mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """The change of a photo.

    before: (3,H,W) in [0,1], the photo at the size of the result. picture: (3,H,W) in [0,1], |after - before| divided
    by its largest value. changed: number of changed pixels. outside: how many of them the mask excludes; None without
    a mask.
    """

    before: Tensor
    picture: Tensor
    changed: int
    outside: int | None


def difference(before: Tensor, after: Tensor, mask: Tensor | None = None) -> Difference:
    """Compare a photo with the result of a task on it.

    before (3,H,W), after (3,h,w) in [0,1]; mask (H,W), True where the photo may change. If the sizes differ, the photo
    is resized to that of ``after`` and the mask is ignored.
    """
    if before.shape != after.shape:
        mask, before = None, F.interpolate(before[None], after.shape[-2:], mode="bilinear", antialias=True)[0]
    eight = [(255 * image).round() for image in (before, after)]
    apart = (eight[1] - eight[0]).abs()
    moved = (apart > 0).any(0)
    return Difference(
        before,
        apart / apart.max().clamp(min=1),
        int(moved.sum()),
        None if mask is None else int(torch.logical_and(moved, ~mask).sum()),
    )
