"""Intervals against scipy's and published numbers, how often each holds the truth, and resamples by a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from bothways.numerics.intervals import (
    RESAMPLES,
    all_equal,
    bootstrap_indices,
    bootstrap_interval,
    holm,
    mean_interval,
    paired_difference,
    quantile_interval,
    seeds_told,
    share_interval,
    wilson_interval,
)
from bothways.types import UserError


@pytest.mark.parametrize(("hits", "n", "confidence"), [(0, 10, 0.95), (10, 10, 0.95), (7, 10, 0.95), (81, 263, 0.99)])
def test_wilson_is_scipys(hits, n, confidence):
    truth = scipy.stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(hits, n, confidence) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_wilson_known_numbers_and_ends():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(UserError, match="hits=3, n=2"):
        wilson_interval(3, 2)


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(2.0, 3.0, 40)
    found, ends = mean_interval(values), scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found == pytest.approx((values.mean(), ends.low, ends.high), abs=1e-12)


def test_resamples_are_those_of_the_seed():
    first, again, other = (bootstrap_indices(9, 50, seed) for seed in (3, 3, 4))
    assert first.shape == (50, 9)
    assert set(first.unique().tolist()) == set(range(9))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---- of shares over seeds ------------------------------------------------------------------------------------------


def test_a_share_over_seeds_is_students_on_the_logit_scale_inside_0_and_1() -> None:
    values = [0.91, 0.98, 0.99]
    quantile = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # of Student's t with 2 degrees of freedom, in closed form
    mean, reach = 0.96, quantile * np.std(values, ddof=1) / math.sqrt(3)
    ends = [1 / (1 + math.exp(-(math.log(mean / (1 - mean)) + way * reach / (mean * (1 - mean))))) for way in (-1, 1)]
    assert mean_interval(values).high > 1  # what it is for
    assert share_interval(values) == pytest.approx((mean, *ends), abs=1e-12)
    near_half = [0.501, 0.5, 0.499]
    assert share_interval(near_half) == pytest.approx(mean_interval(near_half), abs=1e-5)
    assert share_interval([0.0, 1.0]) == pytest.approx((0.5, 0.0, 1.0), abs=1e-6)


def test_equal_shares_have_wilsons_interval_or_none() -> None:
    assert share_interval([1.0, 1.0, 1.0], trials=20) == (1.0, *wilson_interval(20, 20))
    for found in (share_interval([0.4, 0.4]), share_interval([0.4])):
        assert found.value == 0.4
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert all(map(math.isnan, share_interval([0.4, math.nan])))
    with pytest.raises(UserError, match=r"shares from 0\.4 to 1\.2; give shares of 0 to 1"):
        share_interval([0.4, 1.2])


# ---- differences and several rows ----------------------------------------------------------------------------------


def test_a_paired_difference_is_scipys() -> None:
    source = np.random.default_rng(3)
    values, others = source.normal(0.3, 1.0, 12), source.normal(0.0, 1.0, 12)
    truth = scipy.stats.ttest_rel(values, others)
    ends = truth.confidence_interval(0.95)
    found = paired_difference(values, others)
    assert found == pytest.approx(((values - others).mean(), ends.low, ends.high, truth.pvalue), abs=1e-12)
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == (0.0, 0.0, 0.0, 1.0)
    same = paired_difference([2.0, 3.0], [1.0, 2.0])
    assert same.value == 1.0
    assert all(map(math.isnan, same[1:]))
    with pytest.raises(UserError, match="2 and 3 values"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("hits", [(83, 73, 60), (41, 12, 99), (7, 8, 9)])
def test_equal_differences_of_shares_are_equal_whatever_their_rounding(hits: tuple[int, ...]) -> None:
    """All seeds are better by one picture of a hundred: the spread of 1e-16 that floats leave gives no p of 1e-30."""
    values, others = [k / 100 for k in hits], [(k - 1) / 100 for k in hits]
    found = paired_difference(values, others)
    assert found.value == pytest.approx(0.01)
    assert all(map(math.isnan, found[1:]))
    apart = [a - b for a, b in zip(values, others, strict=True)]
    assert all_equal(apart, values, others)
    assert not all_equal([0.01, 0.01 + 1e-9])
    assert all_equal([0.0, 0.0])


def test_holm_is_the_published_step_down() -> None:
    # Holm 1979 by hand: .01 * 4, .02 * 3, .03 * 2 (held at .06), .8 * 1; the order of the rows is kept
    assert holm([0.03, 0.01, 0.8, 0.02]) == pytest.approx([0.06, 0.04, 0.8, 0.06], abs=1e-15)
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    found = holm([0.02, math.nan, 0.03])
    assert found[::2] == pytest.approx([0.04, 0.04], abs=1e-15)
    assert math.isnan(found[1])
    assert holm([]) == []


# ---- the share of intervals that hold the truth, and of false alarms, by simulation --------------------------------

TRIES = 4000
NEAR = 0.015  # of .95: more than four deviations of a share of TRIES


def held(intervals, truth: float) -> float:
    """The share of intervals that hold a number."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def test_wilsons_interval_holds_the_share_as_often_as_it_says() -> None:
    """Exactly, over all counts of hits. Of few and rare hits it may be a few hundredths off, on average it is not."""
    found = []
    for n in (20, 100, 1000):
        for p in np.linspace(0.05, 0.95, 19):
            ends = np.array([wilson_interval(hits, n) for hits in range(n + 1)])
            inside = (ends[:, 0] <= p) & (p <= ends[:, 1])
            found.append(scipy.stats.binom.pmf(np.arange(n + 1), n, p)[inside].sum())
    assert min(found) > 0.90
    assert abs(np.mean(found) - 0.95) < 0.01


@pytest.mark.parametrize("seeds", [3, 5])
def test_students_interval_holds_the_mean_as_often_as_it_says(seeds: int) -> None:
    draws = np.random.default_rng(seeds).normal(2.0, 0.3, (TRIES, seeds))
    assert abs(held((mean_interval(row)[1:] for row in draws), 2.0) - 0.95) < NEAR


@pytest.mark.parametrize(("typical", "pictures"), [(0.4, 1000), (0.9, 500), (0.985, 200)])
def test_a_share_over_three_seeds_holds_the_truth_as_often_as_it_says(typical: float, pictures: int) -> None:
    """Trainings differ by .3 on the logit scale, and each is tested on its own draw of pictures."""
    source = np.random.default_rng(pictures)
    own = 1 / (1 + np.exp(-(math.log(typical / (1 - typical)) + 0.3 * source.normal(size=200_000))))
    values = source.binomial(pictures, source.choice(own, (TRIES, 3))) / pictures
    found = [share_interval(row, pictures)[1:] for row in values]
    assert all(0 <= low <= high <= 1 for low, high in found)
    assert held(found, own.mean()) > 0.95 - NEAR
    if typical < 0.9:
        assert held(found, own.mean()) < 0.95 + NEAR


def test_a_paired_difference_holds_the_truth_and_gains_by_what_the_seeds_share() -> None:
    source = np.random.default_rng(7)
    shared = source.normal(0.0, 1.0, (TRIES, 4, 1))
    both = shared + source.normal([0.2, 0.0], 0.2, (TRIES, 4, 2))
    found = [paired_difference(a, b) for a, b in both.transpose(0, 2, 1)]
    assert abs(held((one[1:3] for one in found), 0.2) - 0.95) < NEAR
    widths = np.mean([one.high - one.low for one in found])
    assert widths < 0.4 * np.mean([mean_interval(rows[:, 0]).high - mean_interval(rows[:, 0]).low for rows in both])


def test_by_holm_one_false_alarm_among_ten_rows_is_as_rare_as_said() -> None:
    """Ten rows without a difference, beside one control of three seeds: unadjusted p alarm in a third of the tables."""
    source = np.random.default_rng(11)
    alarms = np.zeros(2)
    for _ in range(400):
        control, rows = source.normal(size=6), source.normal(size=(10, 6))
        p = [paired_difference(row, control).p for row in rows]
        alarms += [min(p) < 0.05, min(holm(p)) < 0.05]
    assert alarms[0] / 400 > 0.15
    assert alarms[1] / 400 < 0.05 + 0.03


def test_the_bootstrap_of_a_mean_holds_it_as_often_as_it_says() -> None:
    draws = np.random.default_rng(5).normal(1.0, 2.0, (300, 60))
    found = []
    for seed, row in enumerate(draws):
        weighted = bootstrap_interval(row.mean(), lambda counts, row=row: counts.numpy() @ row / 60, [60], seed)
        assert weighted.value == row.mean()
        found.append(weighted[1:])
    assert abs(held(found, 1.0) - 0.95) < 0.04  # three deviations of a share of 300


def test_the_bootstrap_of_weights_is_that_of_the_resampled_pictures() -> None:
    row = np.random.default_rng(2).normal(size=15)
    found = bootstrap_interval(0.0, lambda counts: counts.numpy() @ row / 15, [15], seed=4)
    means = row[bootstrap_indices(15, RESAMPLES, 4).numpy()].mean(1)
    assert found[1:] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert quantile_interval(0.0, [*means, math.nan]) == pytest.approx((0.0, *found[1:]), abs=1e-12)
    assert math.isnan(quantile_interval(1.0, [math.nan]).low)


def test_a_heading_says_of_one_seed_what_its_intervals_leave_out() -> None:
    assert seeds_told([1, 1]) == "one seed, intervals over pictures alone"
    assert seeds_told([3]) == "3 seeds"
    assert seeds_told([3, 2]) == "2 to 3 seeds"
    assert seeds_told([3, 1]) == "1 to 3 seeds, of one the intervals are over pictures alone"
