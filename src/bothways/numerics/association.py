"""Rank correlation (Spearman) and AUROC, with 95 % bootstrap intervals over pictures.

    Spearman    Pearson correlation of the ranks, ties sharing their mean rank       Spearman 1904
    AUROC       P(positive > negative) + P(positive = negative) / 2 = U / (m n)      Mann & Whitney 1947

Both have percentile intervals of a bootstrap over PICTURES (Efron 1979): a picture is resampled with all its
measurements, since its noise levels, or its clean and its corrupted form, are not independent. The bootstrap interval
of an AUROC of 0 or 1 has no width; there the Wilson interval with as many trials as pictures is used. So has that of a
correlation of 1 or -1; there Fisher's z of the next smaller correlation of M entries, 1 - 12 / (M^3 - M), is used, with
the standard error sqrt((1 + r^2 / 2) / (N - 3)) of N pictures (Bonett & Wright 2000).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.numerics.intervals import (
    RESAMPLES,
    UNDEFINED,
    Estimate,
    array_of,
    bootstrap_indices,
    quantile_interval,
    wilson_interval,
)
from bothways.types import UserError

NORMAL = 1.959964  # the 97.5 % quantile of the normal distribution
ENTRIES_AT_ONCE = 500_000  # of the resamples that are ranked together


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman correlation of each row, (R,M), (R,M) -> (R,), NaN where a side is constant."""
    from scipy.stats import rankdata  # half a second to import

    a, b = (rankdata(side, axis=1) - (side.shape[1] + 1) / 2 for side in (a, b))  # the mean rank is (M + 1) / 2
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(a), math.nan), where=scale > 0)


def spearman(a: Any, b: Any, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Spearman's rank correlation over all entries, with a bootstrap interval over pictures.

    a, b: (N,) or (N,L), one row per picture; (L,) against (N,L) is broadcast over pictures, such as noise levels.
    Values without ties reach at most sqrt(1 - 1/L^2) against L tied levels: 0.986 for six.
    NaN where a side is constant or not finite. Raises UserError for shapes that do not broadcast.
    """
    left, right = array_of(a, "spearman"), array_of(b, "spearman")
    try:
        left, right = np.broadcast_arrays(left, right)
    except ValueError as error:
        raise UserError(f"spearman: {left.shape} and {right.shape} do not match; give one row per picture") from error
    value = float(_rank_correlation(left.reshape(1, -1), right.reshape(1, -1))[0])
    if not np.isfinite(left).all() or not np.isfinite(right).all() or math.isnan(value):
        return UNDEFINED
    chosen = bootstrap_indices(len(left), resamples, seed).numpy()
    blocks = np.array_split(chosen, -(-resamples * left.size // ENTRIES_AT_ONCE))
    found = [_rank_correlation(*(side[rows].reshape(len(rows), -1) for side in (left, right))) for rows in blocks]
    _, low, high = quantile_interval(value, np.concatenate(found))
    if math.isclose(low, high, rel_tol=1e-9):
        return _of_one(value, len(left), left.size)
    # a picture drawn twice ties with itself, which raises every resample of a few pictures if levels are tied too
    return Estimate(value, min(value, low), max(value, high))


def _of_one(value: float, pictures: int, entries: int) -> Estimate:
    """A correlation whose resamples are all alike, with the interval by Fisher's z."""
    if pictures <= 3:
        return Estimate(value, -1.0, 1.0)
    nearest = min(abs(value), 1 - 12 / (entries**3 - entries))
    error = math.sqrt((1 + nearest**2 / 2) / (pictures - 3))
    end = math.copysign(1.0, value) * math.tanh(math.atanh(nearest) - NORMAL * error)
    return Estimate(value, min(value, end), max(value, end))


def auroc(positive: Any, negative: Any, *, paired: bool = False, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """AUROC: the probability that a positive value is above a negative one, ties counting half.

    positive (M,), negative (N,). paired: entry i of both comes from picture i, and they are resampled together (M = N).
    NaN where a value is not finite. Raises UserError for paired inputs of unequal length.
    """
    above, below = array_of(positive, "auroc").ravel(), array_of(negative, "auroc").ravel()
    if paired and len(above) != len(below):
        raise UserError(f"auroc: {len(above)} and {len(below)} values cannot be paired; leave paired out")
    if not np.isfinite(above).all() or not np.isfinite(below).all():
        return UNDEFINED
    wins = torch.from_numpy((np.sign(above[:, None] - below) + 1) / 2)
    value = float(wins.mean())
    if value in (0.0, 1.0):
        trials = min(len(above), len(below))
        return Estimate(value, *wilson_interval(round(value * trials), trials))

    def times(pictures: int, seed: int) -> Tensor:
        """Bootstrap weights (resamples, pictures): how often each picture was drawn, as shares."""
        chosen = bootstrap_indices(pictures, resamples, seed)
        ones = torch.full(chosen.shape, 1 / pictures, dtype=wins.dtype)
        return torch.zeros_like(ones).scatter_add_(1, chosen, ones)

    rows = times(len(above), seed)
    columns = rows if paired else times(len(below), seed + 1)
    return quantile_interval(value, ((rows @ wins) * columns).sum(1))
