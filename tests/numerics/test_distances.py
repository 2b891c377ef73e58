"""The bootstrap of kernel distances: its resamples by the definition, and how often its intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bothways.numerics.distances import kernel_bootstrap, kernel_difference
from bothways.numerics.intervals import RESAMPLES, bootstrap_indices
from bothways.numerics.measures import kernel_distance


def drawn(n: int, source: torch.Generator, shift: float = 0.0, dims: int = 3) -> Tensor:
    return torch.randn(n, dims, generator=source, dtype=torch.float64) + shift


def by_definition(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> float:
    """The distance of resampled rows, a pair by a pair, pairs of copies of one row left out."""

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    def within(points: Tensor, chosen: list[int]) -> float:
        pairs = [(i, j) for i in chosen for j in chosen if i != j]
        return sum(k(points[i], points[j]) for i, j in pairs) / len(pairs)

    left, right = rows.tolist(), columns.tolist()
    across = sum(k(a[i], b[j]) for i in left for j in right) / (len(left) * len(right))
    return within(a, left) + within(b, right) - 2 * across


def test_the_interval_is_the_quantiles_of_distances_of_resampled_pictures() -> None:
    source = torch.Generator().manual_seed(0)
    a, b = drawn(6, source), drawn(5, source, 0.5)
    rows, columns = bootstrap_indices(6, RESAMPLES, 2), bootstrap_indices(5, RESAMPLES, 3)
    several = [(i, j) for i, j in zip(rows, columns, strict=True) if len(i.unique()) > 1 and len(j.unique()) > 1]
    each = [by_definition(a, b, *pair) for pair in several]
    found = kernel_bootstrap(a, b, seed=2)
    assert found.value == pytest.approx(kernel_distance(a, b), abs=1e-12)
    assert found[1:] == pytest.approx(np.quantile(each, [0.025, 0.975]), abs=1e-9)


def test_what_copies_would_add_is_left_out() -> None:
    """Copies of pictures would raise the mean of the resamples above the distance; they stay around it."""
    source = torch.Generator().manual_seed(1)
    a, b = drawn(40, source), drawn(60, source)
    found = kernel_bootstrap(a, b)
    assert abs((found.low + found.high) / 2 - found.value) < 0.5 * (found.high - found.low)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(("shift", "at_most"), [(0.0, 1.0), (0.6, 0.98)])
def test_the_interval_holds_the_distance_as_often_as_it_says(shift: float, at_most: float) -> None:
    """Of equal distributions it is wider than need be. The truth: a distance of two large sets."""
    source = torch.Generator().manual_seed(2)
    large = [drawn(4000, source, s) for s in (shift, 0.0)]
    truth = kernel_distance(*large) if shift else 0.0
    found = [kernel_bootstrap(drawn(40, source, shift), drawn(60, source), seed) for seed in range(120)]
    share = np.mean([low <= truth <= high for _, low, high in found])
    assert 0.89 <= share <= at_most  # three deviations of a share of 120 below .95


def test_a_difference_of_two_sets_shares_the_real_pictures_and_holds_the_truth() -> None:
    source = torch.Generator().manual_seed(3)
    truth = kernel_distance(drawn(4000, source, 0.8), drawn(4000, source)) - kernel_distance(
        drawn(4000, source, 0.4), drawn(4000, source)
    )
    found = []
    for seed in range(60):
        near, far, real = drawn(40, source, 0.4), drawn(40, source, 0.8), drawn(40, source)
        one = kernel_difference(far, near, real, seed)
        assert one.value == pytest.approx(kernel_distance(far, real) - kernel_distance(near, real), abs=1e-12)
        found.append(one)
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.86
    same = kernel_difference(near, near, real)
    assert same.value == 0
    assert same.low < 0 < same.high
