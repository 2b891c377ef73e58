"""How well a number follows what it should follow, each with its 95 % interval over pictures.

    Spearman    Pearson correlation of the ranks, ties sharing their mean rank       Spearman 1904
    AUROC       P(positive > negative) + P(positive = negative) / 2 = U / (m n)      Mann & Whitney 1947

Both have percentile intervals of a bootstrap over PICTURES (Efron 1979): a picture is drawn with all that was
measured on it, since its noise levels, or its clean and its corrupted form, are not independent. A bootstrap of an
AUROC of 0 or 1 has no width; there the Wilson interval of as many trials as pictures stands in.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from bothways.numerics.intervals import NOTHING, RESAMPLES, TAILS, Estimate, array_of, resampled, wilson_interval
from bothways.types import UserError

ENTRIES_AT_ONCE = 500_000  # of the resamples that are ranked together


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(R,M), (R,M) -> (R,), NaN where a side is constant."""
    a, b = (rankdata(side, axis=1) - (side.shape[1] + 1) / 2 for side in (a, b))  # the mean rank is (M + 1) / 2
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(a), math.nan), where=scale > 0)


def spearman(a: Any, b: Any, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Spearman's rank correlation over all entries, its interval over pictures.

    a, b: (N,) or (N,L), a row a picture; (L,) against (N,L) is the same for every picture, such as noise levels. Values
    that do not tie reach sqrt(1 - 1/L^2) at most against L levels that do: 0.986 for six.
    NaN where a side is constant or not finite. Raises UserError for shapes that do not go together.
    """
    left, right = array_of(a, "spearman"), array_of(b, "spearman")
    try:
        left, right = np.broadcast_arrays(left, right)
    except ValueError as error:
        raise UserError(f"spearman: {left.shape} and {right.shape} do not go together; give a row a picture") from error
    value = float(_rank_correlation(left.reshape(1, -1), right.reshape(1, -1))[0])
    if not np.isfinite(left).all() or not np.isfinite(right).all() or math.isnan(value):
        return NOTHING
    chosen = resampled(len(left), resamples, seed).numpy()
    blocks = np.array_split(chosen, -(-resamples * left.size // ENTRIES_AT_ONCE))
    found = [_rank_correlation(*(side[rows].reshape(len(rows), -1) for side in (left, right))) for rows in blocks]
    low, high = np.nanquantile(np.concatenate(found), TAILS)
    # a picture drawn twice ties with itself, which lifts all resamples of a few pictures where levels tie as well
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def auroc(positive: Any, negative: Any, *, paired: bool = False, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The chance that a positive value is above a negative one, equal ones counting half.

    positive (M,), negative (N,). paired: entry i of both comes from picture i, and is drawn with it (M = N).
    NaN where a value is not finite. Raises UserError for pairs of unequal number.
    """
    above, below = array_of(positive, "auroc").ravel(), array_of(negative, "auroc").ravel()
    if paired and len(above) != len(below):
        raise UserError(f"auroc: {len(above)} and {len(below)} values are not pairs; leave paired out")
    if not np.isfinite(above).all() or not np.isfinite(below).all():
        return NOTHING
    wins = torch.from_numpy((np.sign(above[:, None] - below) + 1) / 2)
    value = float(wins.mean())
    if value in (0.0, 1.0):
        trials = min(len(above), len(below))
        return Estimate(value, *wilson_interval(round(value * trials), trials))

    def times(pictures: int, seed: int) -> Tensor:
        """(resamples, pictures): how often each picture was drawn, as shares."""
        chosen = resampled(pictures, resamples, seed)
        ones = torch.full(chosen.shape, 1 / pictures, dtype=wins.dtype)
        return torch.zeros_like(ones).scatter_add_(1, chosen, ones)

    rows = times(len(above), seed)
    columns = rows if paired else times(len(below), seed + 1)
    low, high = np.quantile(((rows @ wins) * columns).sum(1).numpy(), TAILS)
    return Estimate(value, float(low), float(high))
