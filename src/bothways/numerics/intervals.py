"""95 % confidence intervals, paired differences, and p-values of several comparisons: the one module of them.

wilson       (p + z^2/2n +- z sqrt(p (1-p) / n + z^2 / 4n^2)) / (1 + z^2/n)    Wilson 1927, JASA 22, p. 209
mean         mean +- t_{n-1} s / sqrt(n)                                       Student 1908
share        Student's, of shares in [0, 1], on the logit scale: inside [0, 1]
paired       the mean of differences a_i - b_i and their t test                Student 1908
jackknife    value +- t_{B-1} sqrt((B-1)/B sum_b (v_b - mean v)^2), v_b without block b          Tukey 1958
bootstrap    the 2.5 % and 97.5 % quantiles over resamples of the pictures     Efron 1979
holm         p_(i) of k sorted p-values becomes max over j <= i of min(1, (k - j + 1) p_(j))     Holm 1979

Of three trainings Student's interval is over what differs from one training to the next; Wilson's, of one training, is
over the test pictures alone and holds nothing of the spread over trainings: ``seeds_told`` says so in a heading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.types import UserError

RESAMPLES = 1000
TAILS = (0.025, 0.975)
ROUNDING = 1e-12  # of the largest number: by so little numbers differ that are equal but for rounding


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
    return interval_of(float(array.mean()), float(array.std(ddof=1)) / math.sqrt(array.size), array.size)


def interval_of(mean: float, error: float, n: int) -> Estimate:
    """Student's interval of the mean of n values with its standard error; NaN ends for one value."""
    reach = _student(n - 1) * error if n > 1 else math.nan
    return Estimate(mean, mean - reach, mean + reach)


def share_interval(values: Any, trials: int = 0) -> Estimate:
    """Mean of (N,) shares, one a seed, with Student's interval over the seeds on the logit scale: inside [0, 1].

    logit m +- t_{N-1} s / (sqrt(N) m (1 - m)),  m the mean, s the standard deviation; carried back by the logistic.
    trials: pictures of one share. Shares that are all equal have no spread to estimate: Wilson's interval with so many
    trials stands in, and NaN ends where none are given. NaN ends for one value, all NaN if a value is not finite.
    Raises UserError for a value outside [0, 1].
    """
    mean, low, high = mean_interval(values)
    array = array_of(values, "share_interval").ravel()
    if not math.isfinite(mean) or array.size == 1:
        return Estimate(mean, low, high)
    if array.min() < 0 or array.max() > 1:
        raise UserError(f"share_interval: shares from {array.min():g} to {array.max():g}; give shares of 0 to 1")
    if all_equal(array):
        ends = wilson_interval(round(mean * trials), trials) if trials else (math.nan, math.nan)
        return Estimate(mean, *ends)
    middle, reach = math.log(mean / (1 - mean)), (high - mean) / (mean * (1 - mean))
    return Estimate(mean, *(0.5 + 0.5 * math.tanh((middle + way * reach) / 2) for way in (-1, 1)))


class Difference(NamedTuple):
    """The mean of paired differences, the ends of its 95 % interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


def paired_difference(values: Any, others: Any) -> Difference:
    """Mean of values - others (N,) with Student's interval, and the p of its t test; entry i of both is of one seed.

    NaN ends and p for one pair, and where all differences are equal, but for rounding, and not 0: there is no spread to
    estimate. Where all are 0 the p is 1. Raises UserError for inputs of other lengths. Source: Student 1908.
    """
    a, b = (array_of(side, "paired_difference").ravel() for side in (values, others))
    if a.size != b.size:
        raise UserError(f"paired_difference: {a.size} and {b.size} values; give one of each for every seed or picture")
    apart = a - b
    mean, low, high = mean_interval(apart)
    if not math.isfinite(mean) or apart.size == 1:
        return Difference(mean, low, high, math.nan)
    if all_equal(apart, a, b):
        return Difference(mean, *[math.nan] * 3) if apart.any() else Difference(0.0, 0.0, 0.0, 1.0)
    from scipy.special import stdtr  # as in _student

    error = float(apart.std(ddof=1)) / math.sqrt(apart.size)
    return Difference(mean, low, high, 2 * float(stdtr(apart.size - 1, -abs(mean) / error)))


def all_equal(values: Any, *of: Any) -> bool:
    """Whether values (N,) are equal but for rounding. of: the numbers whose differences they are, if they are some.

    .83 - .82 and .73 - .72 are both .01, and are 1e-16 apart: a spread of that size is none.
    """
    array = array_of(values, "all_equal")
    largest = max(float(np.abs(array_of(side, "all_equal")).max()) for side in (values, *of))
    return float(np.ptp(array)) <= ROUNDING * largest


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given; compare each with .05. NaN ones stay and do not count.

    The chance that any of true hypotheses falls below .05 is at most .05, whatever the dependence of the rows.
    Source: Holm 1979.
    """
    known = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    found, most = [math.nan] * len(p), 0.0
    for rank, (value, place) in enumerate(known):
        most = max(most, min(1.0, (len(known) - rank) * value))
        found[place] = most
    return found


def seeds_told(counts: Sequence[int]) -> str:
    """What the heading of a table says of its seeds. counts: seeds of each row; of one it says what is left out."""
    least, most = min(counts), max(counts)
    if most == 1:
        return "one seed, intervals over pictures alone"
    if least == most:
        return f"{most} seeds"
    return f"{least} to {most} seeds{', of one the intervals are over pictures alone' if least == 1 else ''}"


def bootstrap_interval(value: float, of: Callable[..., np.ndarray], pictures: Sequence[int], seed: int = 0) -> Estimate:
    """A statistic of sets of pictures with the percentile interval over resamples of every set.

    of: weights (RESAMPLES, n) of each set -> (RESAMPLES,); a weight is how often a picture was drawn. pictures: n of
    each set. A statistic over pairs has to leave out the pairs of a picture with its own copy, or it is biased.
    NaN values of resamples are left out. Source: Efron 1979.
    """
    counts = []
    for place, n in enumerate(pictures):
        rows = bootstrap_indices(n, RESAMPLES, seed + place)
        counts.append(
            torch.zeros(rows.shape, dtype=torch.float64).scatter_add_(1, rows, torch.ones(rows.shape).double())
        )
    return quantile_interval(value, of(*counts))


def quantile_interval(value: float, resampled: Any) -> Estimate:
    """A statistic with the 2.5 % and 97.5 % quantiles of what resamples gave, (R,); NaN ones are left out."""
    array = array_of(resampled, "quantile_interval").ravel()
    there = array[~np.isnan(array)]
    if math.isnan(value) or not len(there):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(there, TAILS)
    return Estimate(value, float(low), float(high))


def jackknife_interval(value: float, *left_out: Any) -> Estimate:
    """A statistic with Student's interval from its values with each block left out, of one set of blocks or several.

        value +- t_f sqrt(sum_k v_k),   v_k = (B_k - 1) var_k,   f = (sum_k v_k)^2 / sum_k v_k^2 / (B_k - 1)

    left_out: (B_k,) of each independent set. NaN ends for B = 1. Source: Efron and Stein 1981; Welch 1947.
    """
    arrays = [array_of(values, "jackknife_interval").ravel() for values in left_out]
    if not np.isfinite([value, *np.concatenate(arrays)]).all():
        return UNDEFINED
    freedoms = [array.size - 1 for array in arrays]
    if not all(freedoms):
        return Estimate(value, math.nan, math.nan)
    parts = [freedom * float(array.var()) for freedom, array in zip(freedoms, arrays, strict=True)]
    whole = sum(parts)
    if not whole:
        return Estimate(value, value, value)
    shares = sum((part / whole) ** 2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    reach = _student(1 / shares) * math.sqrt(whole)
    return Estimate(value, value - reach, value + reach)


def _student(freedom: float) -> float:
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
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.float64)
    array = tensor.detach().cpu().double().numpy()
    if array.ndim == 0 or array.size == 0:
        raise UserError(f"{what}: no pictures were measured; give one value or more per picture")
    return array
