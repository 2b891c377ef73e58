"""Intervals against scipy's and published numbers, and resamples that are the seed's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from bothways.numerics.intervals import bootstrap_indices, mean_interval, wilson_interval
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
