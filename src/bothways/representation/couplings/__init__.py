"""Couplings of images and noise within a batch, always permutations.

A coupling is a function (images, noise), both (B,...) -> the permutation (B,) that pairs image i with noise p(i); each
is a file here. The authors of minibatch transport draw pairs from the plan with replacement, which leaves about 37 % of
every batch unused; a permutation has the same cost and uses all.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bothways import registry
from bothways.types import Coupling


def coupling_of(name: Any) -> Coupling:
    """Coupling from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name."""
    return registry.find("coupling", name).factory


def squared_distances(images: Tensor, noise: Tensor) -> Tensor:
    """Cost matrix C_ij = ||image_i - noise_j||^2, (B,B) float64."""
    rows, columns = (x.flatten(1).double() for x in (images, noise))
    squares = rows.square().sum(1)[:, None] + columns.square().sum(1)[None, :]
    return (squares - 2 * rows @ columns.T).clamp_min(0)
