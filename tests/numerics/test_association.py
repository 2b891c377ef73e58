"""Rank correlation, AUROC and means against scipy and closed forms, and what their intervals take for one trial."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from bothways.numerics.association import auroc, spearman
from bothways.numerics.intervals import mean_interval, wilson_interval
from bothways.types import UserError

LEVELS = [0.0, 0.1, 0.3]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def structural_components(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong, DeLong & Clarke-Pearson 1988, eq. 4 and 5."""
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(1), wins.mean(0)


def half_width(estimate) -> float:
    return (estimate.high - estimate.low) / 2


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_values_are_those_of_scipy_with_and_without_ties(digits) -> None:
    a, b = np.round(normal(1, 60), digits), np.round(normal(2, 45) + 0.5, digits)
    other = np.round(a + normal(3, 60), digits)
    assert abs(spearman(a, other).value - scipy.stats.spearmanr(a, other).statistic) < 1e-12
    assert abs(auroc(b, a).value - scipy.stats.mannwhitneyu(b, a).statistic / (60 * 45)) < 1e-12
    found, wanted = mean_interval(a), scipy.stats.ttest_1samp(a, 0.0)
    ends = wanted.confidence_interval(0.95)
    assert max(abs(found.value - a.mean()), abs(found.low - ends.low), abs(found.high - ends.high)) < 1e-12


def test_levels_go_with_every_picture() -> None:
    a = normal(4, 30, 3) + np.array(LEVELS)
    repeated = np.tile(LEVELS, (30, 1))
    assert spearman(a, LEVELS) == spearman(a, repeated)
    assert abs(spearman(a, LEVELS).value - scipy.stats.spearmanr(a.ravel(), repeated.ravel()).statistic) < 1e-12


def test_untied_values_reach_the_ceiling_of_tied_levels() -> None:
    ordered = np.arange(1200.0).reshape(6, 200).T
    found = spearman(ordered, range(6), resamples=100)
    assert abs(found.value - math.sqrt(1 - 1 / 36)) < 1e-5
    assert found.low <= found.value <= found.high < 0.9865


def test_the_interval_of_spearman_is_near_the_closed_form() -> None:
    n, a = 400, normal(5, 400)
    b = 0.6 * a + 0.8 * normal(6, 400)
    found = spearman(a, b, resamples=2000)
    error = math.sqrt((1 + found.value**2 / 2) / (n - 3))  # Bonett & Wright 2000
    low, high = (math.tanh(math.atanh(found.value) + side * 1.96 * error) for side in (-1, 1))
    assert max(abs(found.low - low), abs(found.high - high)) < 0.015


def test_a_picture_measured_twice_is_one_trial() -> None:
    a, b = normal(7, 40), normal(8, 40)
    twice = spearman(np.stack([a, a], 1), np.stack([b, b], 1))
    assert max(abs(x - y) for x, y in zip(twice, spearman(a, b), strict=True)) < 1e-12


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_of_an_auroc_is_near_delongs(paired) -> None:
    own = normal(9, 300)
    positive, negative = own + normal(10, 300) + 0.8, own + normal(11, 300)
    rows, columns = structural_components(positive, negative)
    spread = (rows + columns).var(ddof=1) if paired else rows.var(ddof=1) + columns.var(ddof=1)
    found = auroc(positive, negative, paired=paired, resamples=4000)
    assert abs(half_width(found) - 1.96 * math.sqrt(spread / 300)) < 0.003


def test_pairs_that_go_together_narrow_the_interval() -> None:
    own = normal(12, 200)
    shifted = own + 0.3 + 0.01 * normal(13, 200)
    assert half_width(auroc(shifted, own, paired=True)) < 0.3 * half_width(auroc(shifted, own))


def test_an_auroc_of_nought_or_one_keeps_a_width() -> None:
    assert auroc([3.0, 4.0, 5.0], [1.0, 2.0]) == (1.0, *wilson_interval(2, 2))
    assert auroc([1.0, 2.0], [3.0, 4.0, 5.0]) == (0.0, *wilson_interval(0, 2))
    assert auroc([1.0, 1.0], [1.0, 1.0]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_correlation_of_one_keeps_a_width(sign: float) -> None:
    rising = np.arange(10.0)
    found = spearman(rising, sign * rising)
    nearest = scipy.stats.spearmanr(rising, [1, 0, *range(2, 10)]).statistic  # two neighbours change places
    end = math.tanh(math.atanh(nearest) - scipy.stats.norm.ppf(0.975) * math.sqrt((1 + nearest**2 / 2) / 7))
    assert found.value == pytest.approx(sign)
    assert sorted((found.low, found.high)) == pytest.approx(sorted((sign, sign * end)), abs=1e-6)
    few = spearman(rising[:3], sign * rising[:3])
    assert (few.low, few.high) == (-1.0, 1.0)


def test_it_is_the_same_every_time_and_takes_tensors() -> None:
    a, b = normal(14, 20), normal(15, 20)
    assert spearman(a, b, seed=3) == spearman(torch.tensor(a), torch.tensor(b), seed=3)
    assert spearman(a, b, seed=3) != spearman(a, b, seed=4)
    assert auroc(a, b, seed=3) == auroc(torch.tensor(a), torch.tensor(b), seed=3)


def test_what_cannot_be_had_is_not_a_number() -> None:
    assert all(map(math.isnan, spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])))
    assert all(map(math.isnan, spearman([1.0, math.nan, 1.0], [1.0, 2.0, 3.0])))
    assert all(map(math.isnan, auroc([1.0, math.inf], [1.0])))
    assert all(map(math.isnan, mean_interval([1.0, math.nan])))
    assert mean_interval([2.0]).value == 2.0
    assert math.isnan(mean_interval([2.0]).low)


def test_mistakes_say_what_to_give() -> None:
    with pytest.raises(UserError, match="one row per picture"):
        spearman([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(UserError, match="leave paired out"):
        auroc([1.0, 2.0, 3.0], [1.0, 2.0], paired=True)
    for nothing in (lambda: spearman([], []), lambda: auroc([], [1.0]), lambda: mean_interval([])):
        with pytest.raises(UserError, match="no pictures were measured"):
            nothing()
