"""Scores are those of scikit-learn, and their intervals those of resampled pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bothways.numerics import scores
from bothways.numerics.intervals import bootstrap_indices

metrics = pytest.importorskip("sklearn.metrics")


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    return np.round(source.normal(size=60), 1), (source.random(60) < 0.3).astype(float)  # with ties


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    guess, known = drawn(seed)
    assert abs(scores.auroc(guess, known) - metrics.roc_auc_score(known, guess)) < 1e-12
    assert abs(scores.average_precision(guess, known) - metrics.average_precision_score(known, guess)) < 1e-12
    true = drawn(seed + 10)[0]
    assert abs(scores.r_squared(guess, true) - metrics.r2_score(true, guess)) < 1e-12
    assert abs(scores.mean_squared_error(guess, true) - metrics.mean_squared_error(true, guess)) < 1e-12
    assert abs(scores.mean_absolute_error(guess, true) - metrics.mean_absolute_error(true, guess)) < 1e-12


def test_what_has_no_score_is_left_out_of_the_mean() -> None:
    guess, known = torch.randn(30, 2), torch.zeros(30, 2)
    known[:9, 1] = 1
    mean, empty, there = scores.scored(guess, known, scores.RANKING)["auroc"]
    assert math.isnan(empty.value)
    assert mean == there
    assert math.isnan(scores.r_squared(np.zeros(3), np.ones(3)))


def test_intervals_are_quantiles_over_resampled_pictures() -> None:
    guess, known = torch.randn(40, 1), torch.randn(40, 1)
    mean, one = scores.scored(guess, known, scores.REGRESSION, seed=3)["mae"]
    assert mean == one
    rows = bootstrap_indices(40, 1000, 3)
    resampled = (guess - known).abs()[:, 0].double()[rows].mean(1)
    assert np.allclose((one.low, one.high), np.quantile(resampled.numpy(), (0.025, 0.975)), atol=1e-12)
    assert one.low < one.value < one.high
