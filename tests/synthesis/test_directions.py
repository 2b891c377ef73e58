"""What a linear head reads in sampled features, as a direction: by its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.synthesis.density import Density, drawn_pair
from bothways.synthesis.directions import mixed_target, read_direction, surest


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_target_is_the_formula(share: float) -> None:
    points, centre, head = normal(4, 6), normal(6, seed=1), normal(9, 6, seed=2)
    found = mixed_target(points, centre, head, share).numpy()
    f, w = points.numpy(), head.numpy()
    read = scipy.special.softmax(f @ w.T, axis=1) @ w - w.mean(0)
    wanted = centre.numpy() + (1 - share) * unit(f - centre.numpy()) + share * unit(read)
    assert np.abs(found - wanted).max() < 1e-12


def test_without_a_head_or_a_share_of_it_a_target_is_the_point_to_the_bit() -> None:
    points, centre, head = normal(4, 6), normal(6, seed=1), normal(9, 6, seed=2)
    assert torch.equal(mixed_target(points, centre, None, 0.7), points)
    assert torch.equal(mixed_target(points, centre, head, 0.0), points)


def test_a_point_that_is_surely_of_a_class_reads_as_its_row() -> None:
    head = torch.eye(5, 8, dtype=torch.float64)
    found = read_direction(60 * head[[3, 1]], head)
    assert (found - (head - head.mean(0))[[3, 1]]).abs().max() < 1e-12
    assert read_direction(torch.zeros(1, 8, dtype=torch.float64), head).abs().max() < 1e-15


def test_the_surest_are_those_of_the_largest_probability() -> None:
    points, head = normal(20, 6), normal(9, 6, seed=2)
    sure = scipy.special.softmax(points.numpy() @ head.numpy().T, axis=1).max(1)
    assert surest(points, head, 0.25).tolist() == sorted(np.argsort(sure)[5:].tolist())
    assert surest(points, head, 0.0).tolist() == list(range(20))
    assert surest(points, head, 0.999).tolist() == [int(np.argmax(sure))]


def test_only_leading_rows_are_drawn_and_any_row_is_mixed_with_them() -> None:
    rows, leading = {"a": normal(12, 7)}, torch.tensor([2, 5, 11])
    pair = drawn_pair(rows, Draws(range(300)), Density(leading=leading))
    assert set(pair.own.tolist()) == {2, 5, 11}
    assert len(set(pair.other.tolist())) > 5
    every = drawn_pair(rows, Draws(range(300)), Density(leading=torch.arange(12)))
    assert torch.equal(every.own, drawn_pair(rows, Draws(range(300)), Density()).own)
