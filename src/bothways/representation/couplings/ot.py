"""Minibatch optimal transport: argmin over permutations of sum_i ||image_i - noise_p(i)||^2.

The squares of images and noise add up to the same for every permutation, so it is argmax of sum_i image_i . noise_p(i).

Sources: Tong et al. 2023, arXiv 2302.00482; Pooladian et al. 2023, arXiv 2304.14772.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.registry import register


@register("coupling", "ot", help="exact minibatch optimal transport", reference="ot")
def ot(images: Tensor, noise: Tensor) -> Tensor:
    """Optimal-transport permutation p (B,) int64 that pairs image i with noise p(i); by scipy, in O(B^3)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = (x.flatten(1).double() for x in (images, noise))
    _, chosen = linear_sum_assignment((rows @ columns.T).cpu().numpy(), maximize=True)
    return torch.from_numpy(chosen)
