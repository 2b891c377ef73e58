"""What became of a photo: the pixels that changed, in eight bits, and how many of them the mask did not allow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """before, picture (3,H,W) in [0,1]: the photo at the size of what was made of it, and |after - before|, lighter
    where more changed, its largest value white. changed: pixels; outside: those of them where the mask is 0, or None.
    """

    before: Tensor
    picture: Tensor
    changed: int
    outside: int | None


def difference(before: Tensor, after: Tensor, mask: Tensor | None = None) -> Difference:
    """before (3,H,W), after (3,h,w) in [0,1]; mask (H,W), True where the photo might change.

    A photo of another size is resized to that of ``after``, and then nothing is said of the mask.
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
