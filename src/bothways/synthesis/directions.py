"""The direction that features are to take: that of a sampled point, and what a linear head reads in the point.

    d = (1 - h) u(f* - m) + h u(sum_k p_k w_k - mean_k w_k),   p = softmax(W f*),   u(v) = v / |v|

f*: the sampled point; m: the mean over real pictures; w_k: the rows of the head, whose bias is left out; h: the share
of the reading. The rows were learned from all pictures of the training: they hold what tells one kind of picture from
the others, where f* - m holds all that one picture is. No label is given: p is the network's own.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mixed_target(points: Tensor, centre: Tensor, rows: Tensor | None, share: float) -> Tensor:
    """m + d (B,D) of points f* (B,D). centre: m (D,). rows: W (K,D); None, or a share h of 0, gives f* itself."""
    if rows is None or not share:
        return points
    own, read = F.normalize(points - centre, dim=1), F.normalize(read_direction(points, rows), dim=1)
    return centre + (1 - share) * own + share * read


def read_direction(points: Tensor, rows: Tensor) -> Tensor:
    """sum_k p_k w_k - mean_k w_k (B,D), p = softmax(W f*). points: f* (B,D). rows: W (K,D)."""
    return (points @ rows.T).softmax(1) @ rows - rows.mean(0)


def surest(points: Tensor, rows: Tensor, unsure: float) -> Tensor:
    """The numbers of points, in order, without the share ``unsure`` whose largest p_k is smallest; one at least.

    points: (N,D). rows: W (K,D) of the head.
    """
    least = (points @ rows.T).softmax(1).amax(1).argsort(stable=True)
    return least[min(int(unsure * len(points)), len(points) - 1) :].sort().values
