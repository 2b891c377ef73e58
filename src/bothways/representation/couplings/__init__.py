"""Couplings of images and noise within a batch, always permutations.

A coupling is a function (images, noise), both (B,...) -> the permutation (B,) that pairs image i with noise p(i); each
is a file here. The authors of minibatch transport draw pairs from the plan with replacement, which leaves about 37 % of
every batch unused; a permutation has the same cost and uses all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bothways import registry
from bothways.faults import call
from bothways.types import Coupling, UserError


def coupling_of(name: Any) -> Coupling:
    """Coupling from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name."""
    return registry.find("coupling", name).factory


def permutation(coupling: Coupling, images: Tensor, noise: Tensor) -> Tensor:
    """(B,) int64: what a coupling gives. Raises UserError where that is no permutation of 0..B-1."""
    chosen, count = call("coupling", coupling, images, noise, kept=True), len(images)
    if (
        not isinstance(chosen, Tensor)
        or chosen.dtype != torch.int64
        or chosen.shape != (count,)
        or not torch.equal(chosen.sort().values.cpu(), torch.arange(count))
    ):
        what = f"{tuple(chosen.shape)} {chosen.dtype}" if isinstance(chosen, Tensor) else type(chosen).__name__
        raise UserError(
            f"coupling {registry.name_of(coupling)!r} gives {what} for {count} pictures; return a permutation of "
            f"0..{count - 1}, a tensor ({count},) of torch.int64"
        )
    return chosen


def squared_distances(images: Tensor, noise: Tensor) -> Tensor:
    """Cost matrix C_ij = ||image_i - noise_j||^2, (B,B) float64."""
    rows, columns = (x.flatten(1).double() for x in (images, noise))
    squares = rows.square().sum(1)[:, None] + columns.square().sum(1)[None, :]
    return (squares - 2 * rows @ columns.T).clamp_min(0)
