"""Shared traits of the portraits of a class, and entangled pairs of classes.

    separation   d^2 = mean_k (m_k - r_k)^2 / (v_k + s_k)      m, v: mean and variance of feature k over the portraits
                                                               of a class; r, s: over real pictures of it
    consistency  exp mean_layers log( d / median over classes of d )
    trait        w_k = (m_k - r_k) / (v_k + s_k),   along it: (x - r) . w, in deviations of the real pictures

A feature contributes if all portraits agree on it (small v) and differ from the real pictures (r differs, small s). All
portraits are more extreme than real pictures, so d alone is not informative: a class is compared with the others of its
model. w is Fisher's discriminant with diagonal covariances (Bickel & Levina 2004, Bernoulli 10(6)), since portraits are
few. The idea is that of the "global explanations" of DSF (portraits of clocks that all show one time), whose authors
describe it qualitatively; the measure is new here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bothways.representation.tuning.targets import largest
from bothways.types import UserError

TINY = 1e-30  # avoids 0 / 0 for dead features


@dataclass(frozen=True)
class Trait:
    """The shared trait of portraits: a direction w (D,) from the mean (D,) of real pictures in a feature space.

    gap: the mean of the portraits along w. spread: their deviation. Both are in deviations of the real pictures.
    """

    direction: Tensor
    origin: Tensor
    gap: float
    spread: float

    def project(self, features: Tensor) -> Tensor:
        """Project (N,D) -> (N,) on the trait; real pictures of the class have mean 0 and deviation 1."""
        return (features.double() - self.origin) @ self.direction


def separation(drawn: Tensor, real: Tensor, floor: Tensor) -> float:
    """The standardised distance of portraits (N,D) from real pictures (M,D) of their class.

        d = sqrt( mean_k (m_k - r_k)^2 / (v_k + s_k + floor_k) )

    floor (D,): variance added to each feature, so that one that is zero on all real pictures stays finite.
    Raises UserError for fewer than two of either.
    """
    shift, variance, _ = _moments(drawn, real, floor)
    return float((shift**2 / variance).mean().sqrt())


def _moments(drawn: Tensor, real: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if len(drawn) < 2 or len(real) < 2:
        raise UserError(f"an audit compares two portraits or more with two real pictures, not {len(drawn)}; type --n 6")
    drawn, real = drawn.double(), real.double()
    origin = real.mean(0)
    return drawn.mean(0) - origin, drawn.var(0) + real.var(0) + floor + TINY, origin


def trait_of(drawn: Tensor, real: Tensor, floor: Tensor) -> Trait:
    """The direction in which portraits (N,D) agree and differ from real pictures (M,D); floor as in ``separation``."""
    shift, variance, origin = _moments(drawn, real, floor)
    raw = Trait(shift / variance, origin, 0.0, 0.0)
    deviation = raw.project(real).std().clamp_min(TINY)
    scaled = Trait(raw.direction / deviation, origin, 0.0, 0.0)
    along = scaled.project(drawn)
    return Trait(scaled.direction, origin, float(along.mean()), float(along.std()))


def relative(values: Tensor) -> Tensor:
    """(L,C) of L layers and C classes -> (C,): the geometric mean over layers, in units of the median class."""
    logs = values.clamp_min(TINY).log()
    middle = torch.quantile(logs, 0.5, dim=1, keepdim=True)
    return (logs - middle).mean(0).exp()


def place_map(activation: Tensor, trait: Trait) -> Tensor:
    """The trait at each position: (N,D,h,w) -> (N,h,w); its spatial mean is ``trait.project`` of the mean feature."""
    return torch.einsum("ndhw,d->nhw", activation.double() - trait.origin[:, None, None], trait.direction)


def seen_besides(logits: Tensor, own: Tensor, count: int = 2) -> Tensor:
    """(N,K) bool: the ``count`` most probable classes of each picture besides its target. own (N,): -1 for none."""
    others = logits.double().clone()
    known = own >= 0
    others[known, own[known]] = -torch.inf
    return torch.zeros_like(others, dtype=torch.bool).scatter_(1, largest(others, count).indices, value=True)


@dataclass(frozen=True)
class Pair:
    """A class that is recognised more often in the portraits of another class than in its real pictures.

    drawn_class, seen: row and column in the counts. share, real_share: of portraits and of real pictures.
    p: of Fisher's exact test, one-sided, for this pair alone.
    """

    drawn_class: int
    seen: int
    share: float
    real_share: float
    p: float


def distinct_pairs(
    drawn: Tensor, portraits: Tensor, real: Tensor, pictures: Tensor, level: float = 0.05, rare: float = 0.1
) -> list[Pair]:
    """The pairs that are frequent in portraits and rare in real pictures, the most significant first.

    drawn, real (C,K): number of portraits and real pictures of each class in which another class was recognised.
    portraits, pictures (C,): their totals. rare: maximum share of real pictures. level: family-wise error, by
    Bonferroni: a pair needs p < level / pairs. Portraits of one recipe are not independent, so p ranks and filters the
    pairs but is not a calibrated probability.
    """
    from scipy.stats import fisher_exact  # half a second to import

    tested = int((drawn + real > 0).sum()) or 1
    found = []
    for row, column in (drawn > 0).nonzero().tolist():
        n, m = int(portraits[row]), int(pictures[row])
        hits, of_real = int(drawn[row, column]), int(real[row, column])
        if of_real > rare * m or hits * m <= of_real * n:
            continue
        p = float(fisher_exact([[hits, n - hits], [of_real, m - of_real]], alternative="greater").pvalue)
        if p < level / tested:
            found.append(Pair(row, column, hits / n, of_real / m, p))
    return sorted(found, key=lambda pair: (pair.p, -pair.share))


def cluster_order(matrix: Tensor) -> list[int]:
    """The order of the rows of a square matrix of shares (C,C) that places entangled classes next to each other.

    Average linkage of 1 - (M + M^T) / 2 with optimally ordered leaves.
    """
    count = len(matrix)
    if count < 3:
        return list(range(count))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    distance = 1 - (matrix + matrix.T).double().numpy() / 2
    np.fill_diagonal(distance, 0)
    flat = squareform(distance, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(flat, "average"), flat)).tolist()
