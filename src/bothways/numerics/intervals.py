"""95 % confidence intervals of a proportion and of a mean, and bootstrap resampling over pictures.

share        (p + z^2/2n +- z sqrt(p (1-p) / n + z^2 / 4n^2)) / (1 + z^2/n)    Wilson 1927, JASA 22, p. 209
mean         mean +- t_{n-1} s / sqrt(n)                                       Student 1908
jackknife    value +- t_{B-1} sqrt((B-1)/B sum_b (v_b - mean v)^2), v_b without block b          Tukey 1958
bootstrap    the 2.5 % and 97.5 % quantiles over resamples of the pictures     Efron 1979
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.types import UserError

RESAMPLES = 1000
TAILS = (0.025, 0.975)


class Estimate(NamedTuple):
    """A point estimate and the ends of its 95 % confidence interval; NaN where undefined."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(math.nan, math.nan, math.nan)


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion ``hits / n`` of independent trials; (0, 1) for n = 0.

    (p + z^2/2n +- z sqrt(p (1-p) / n + z^2 / 4n^2)) / (1 + z^2/n), with z the normal quantile of (1 + confidence) / 2.
    Raises UserError unless 0 <= hits <= n and 0 < confidence < 1. Source: Wilson 1927.
    """
    if not 0 <= hits <= n or not 0 < confidence < 1:
        raise UserError(
            f"wilson_interval: hits={hits}, n={n}, confidence={confidence}; "
            "give 0 <= hits <= n and a confidence such as 0.95"
        )
    if n == 0:
        return 0.0, 1.0

    # scipy.stats.binomtest evaluates the formula in another order, up to 43 ulp away: old reports would not reproduce
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = hits / n
    middle = p + z * z / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # 0 and 1 are exact in these cases; the formula misses them by a rounding error.
    low = 0.0 if hits == 0 else (middle - reach) / scale
    high = 1.0 if hits == n else (middle + reach) / scale
    return low, high


def mean_interval(values: Any) -> Estimate:
    """Mean of (N,) values with Student's t interval; NaN ends for one value, all NaN if a value is not finite."""
    array = array_of(values, "mean_interval").ravel()
    if not np.isfinite(array).all():
        return UNDEFINED
    if array.size == 1:
        return Estimate(float(array[0]), math.nan, math.nan)
    mean, error = float(array.mean()), float(array.std(ddof=1)) / math.sqrt(array.size)
    reach = _student(array.size - 1) * error
    return Estimate(mean, mean - reach, mean + reach)


def jackknife_interval(value: float, left_out: Any) -> Estimate:
    """A statistic with Student's interval from its values with each of B blocks left out, (B,); NaN ends for B = 1."""
    array = array_of(left_out, "jackknife_interval").ravel()
    if not np.isfinite([value, *array]).all():
        return UNDEFINED
    if array.size == 1:
        return Estimate(value, math.nan, math.nan)
    reach = _student(array.size - 1) * math.sqrt((array.size - 1) * float(array.var()))
    return Estimate(value, value - reach, value + reach)


def _student(freedom: int) -> float:
    """The upper quantile of Student's t with so many degrees of freedom."""
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, without the half second of that import

    return float(stdtrit(freedom, TAILS[1]))


def bootstrap_indices(pictures: int, count: int, seed: int) -> Tensor:
    """Bootstrap resamples: picture indices (count, pictures), drawn with replacement from a seeded generator.

    ``scipy.stats.bootstrap`` uses NumPy's generator, by which a seed would not reproduce intervals of earlier reports.
    """
    return torch.randint(pictures, (count, pictures), generator=generator(seed, purpose="bootstrap"))


def array_of(values: Any, what: str) -> np.ndarray:
    """Values as a float64 array. what: the name in error messages. Raises UserError for an empty input."""
    array = torch.as_tensor(values).detach().cpu().double().numpy()
    if array.ndim == 0 or array.size == 0:
        raise UserError(f"{what}: no pictures were measured; give one value or more per picture")
    return array
