"""What portraits share, against closed forms, scipy and a plant that is known."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from bothways.numerics.draws import generator
from bothways.tasks.explain.traits import (
    Trait,
    cluster_order,
    distinct_pairs,
    place_map,
    relative,
    seen_besides,
    separation,
    trait_of,
)
from bothways.types import UserError


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_separation_is_the_closed_form() -> None:
    drawn, real = normal(9, 4) + torch.tensor([0.0, 0, 0, 3]), normal(30, 4, seed=1)
    shift = drawn.mean(0) - real.mean(0)
    expected = (shift**2 / (drawn.var(0) + real.var(0))).mean().sqrt()
    assert abs(separation(drawn, real, torch.zeros(4)) - expected.item()) < 1e-12


def test_separation_knows_no_units_and_no_dead_channel() -> None:
    drawn, real = normal(9, 3) + 1, normal(30, 3, seed=1)
    scale = torch.tensor([1e-3, 1.0, 1e3])
    once = separation(drawn, real, torch.zeros(3))
    assert abs(separation(drawn * scale, real * scale, torch.zeros(3)) - once) < 1e-9
    dead = torch.cat([drawn, torch.zeros(9, 1)], 1), torch.cat([real, torch.zeros(30, 1)], 1)
    assert math.isfinite(separation(*dead, torch.zeros(4)))
    # a channel that never fires on real pictures and always on portraits counts by its floor, not infinitely
    fires = torch.cat([drawn, torch.ones(9, 1)], 1), torch.cat([real, torch.zeros(30, 1)], 1)
    floor = torch.tensor([0.0, 0, 0, 0.01])
    assert separation(*fires, floor) < 10.1


def test_relative_is_a_geometric_mean_over_layers_of_shares_of_the_median() -> None:
    values = torch.tensor([[1.0, 2, 4], [10, 10, 40]], dtype=torch.float64)
    expected = [(0.5 * 1) ** 0.5, (1 * 1) ** 0.5, (2 * 4) ** 0.5]
    assert np.abs(relative(values).numpy() - expected).max() < 1e-12


def test_a_planted_trait_is_found_and_a_plain_class_is_not() -> None:
    """Ten classes exaggerate what they are; one has a channel of its own that its real pictures lack."""
    real = [2 * torch.eye(12)[c].double() + normal(50, 12, seed=c) for c in range(10)]
    drawn = [6 * torch.eye(12)[c].double() + 0.3 * normal(8, 12, seed=50 + c) for c in range(10)]
    drawn[3] = drawn[3] + 9 * torch.eye(12)[11].double()
    found = relative(torch.tensor([[separation(d, r, torch.zeros(12)) for d, r in zip(drawn, real, strict=True)]]))
    assert int(found.argmax()) == 3
    assert found[3] > 1.4 > found[[c for c in range(10) if c != 3]].max()
    trait = trait_of(drawn[3], real[3], torch.zeros(12))
    assert int(trait.direction.abs().argmax()) == 11


def test_trait_is_measured_in_deviations_of_the_real_pictures() -> None:
    real = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    drawn = torch.tensor([[4.0], [5.0], [6.0]])
    trait = trait_of(drawn, real, torch.zeros(1))
    deviation = real.std().item()
    assert abs(trait.gap - 5 / deviation) < 1e-5
    assert abs(trait.spread - 1 / deviation) < 1e-5
    along = trait.project(torch.cat([real, drawn]))
    assert abs(along[:4].mean()) < 1e-6
    assert abs(along[:4].std() - 1) < 1e-6


def test_place_map_says_where_and_averages_to_the_projection() -> None:
    maps = normal(2, 3, 4, 4)
    trait = Trait(normal(3, seed=2), normal(3, seed=3), gap=1.0, spread=1.0)
    where = place_map(maps, trait)
    assert where.shape == (2, 4, 4)
    assert (where.mean((1, 2)) - trait.project(maps.mean((2, 3)))).abs().max() < 1e-12


def test_seen_besides_leaves_the_own_class_out() -> None:
    logits = torch.tensor([[9.0, 5, 1, 0], [0, 1, 2, 3]])
    seen = seen_besides(logits, torch.tensor([0, 0]), count=2)
    assert seen.tolist() == [[False, True, True, False], [False, False, True, True]]
    foreign = seen_besides(logits, torch.tensor([-1, -1]), count=2)  # a class that this judge does not know
    assert foreign.tolist() == [[True, True, False, False], [False, False, True, True]]
    equal = seen_besides(torch.zeros(1, 100), torch.tensor([1]), count=3)
    assert equal.nonzero()[:, 1].tolist() == [0, 2, 3]


def test_pairs_are_named_by_fishers_exact_test() -> None:
    drawn = torch.tensor([[0, 12, 1], [2, 0, 3]])
    real = torch.tensor([[0, 10, 30], [40, 0, 60]])
    pairs = distinct_pairs(drawn, torch.tensor([12, 12]), real, torch.tensor([100, 100]), level=0.05)
    assert [(pair.drawn_class, pair.seen) for pair in pairs] == [(0, 1)]
    table = [[12, 0], [10, 90]]
    assert abs(pairs[0].p - scipy.stats.fisher_exact(table, alternative="greater").pvalue) < 1e-15
    assert pairs[0].share == 1
    assert pairs[0].real_share == 0.1


def test_many_pairs_raise_the_bar() -> None:
    """One portrait more than chance is not a finding among ninety pairs."""
    drawn = torch.full((10, 10), 3)
    drawn[0, 1] = 6
    real = torch.full((10, 10), 22)
    n, m = torch.full((10,), 12), torch.full((10,), 100)
    assert distinct_pairs(drawn, n, real, m, level=0.05) == []
    assert len(distinct_pairs(drawn, n, real, m, level=10.0, rare=1)) >= 1


def test_clusters_lie_together() -> None:
    matrix = torch.zeros(4, 4)
    matrix[0, 2] = matrix[2, 0] = matrix[1, 3] = matrix[3, 1] = 1
    order = cluster_order(matrix)
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1
    assert cluster_order(torch.zeros(1, 1)) == [0]


def test_one_portrait_shares_nothing_with_itself() -> None:
    with pytest.raises(UserError, match="two"):
        separation(normal(1, 3), normal(9, 3), torch.zeros(3))
