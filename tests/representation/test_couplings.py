"""Couplings: permutations, of the cost that scipy finds, and an entropic plan that does not underflow."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from bothways import registry
from bothways.representation.couplings import coupling_of, squared_distances
from bothways.representation.couplings.sinkhorn import sinkhorn_plan
from bothways.types import Coupling, UserError

every_coupling = pytest.mark.parametrize(
    "coupling", [coupling_of(name) for name in registry.names("coupling")], ids=registry.names("coupling")
)


def batch(size: int, seed: int = 0, shape: tuple[int, ...] = (3, 4, 4)) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(size, *shape, generator=source) * 2 - 1, torch.randn(size, *shape, generator=source)


def cost(images: Tensor, noise: Tensor, chosen: Tensor) -> float:
    return float((images - noise[chosen]).double().square().sum())


@every_coupling
@pytest.mark.parametrize("size", [1, 2, 64])
def test_every_sample_is_used_once(coupling: Coupling, size: int) -> None:
    chosen = coupling(*batch(size))
    assert chosen.dtype == torch.int64
    assert sorted(chosen.tolist()) == list(range(size))


def test_the_cost_of_transport_is_scipys_and_the_least_of_all() -> None:
    images, noise = batch(128)
    costs = cdist(images.flatten(1).numpy(), noise.flatten(1).numpy(), "sqeuclidean")
    least = costs[linear_sum_assignment(costs)].sum()
    assert abs(cost(images, noise, coupling_of("ot")(images, noise)) - least) < 1e-3
    images, noise = batch(5, shape=(2,))
    brute = min(cost(images, noise, torch.tensor(order)) for order in itertools.permutations(range(5)))
    assert abs(cost(images, noise, coupling_of("ot")(images, noise)) - brute) < 1e-12


def test_distances_are_scipys() -> None:
    images, noise = batch(32)
    truth = torch.from_numpy(cdist(images.flatten(1).numpy(), noise.flatten(1).numpy(), "sqeuclidean"))
    assert (squared_distances(images, noise) - truth).abs().max() < 1e-4 * truth.max()


@pytest.mark.parametrize("regularization", [1.0, 0.05])
def test_the_plan_has_its_margins_and_is_the_plain_iteration(regularization: float) -> None:
    costs = squared_distances(*batch(24))
    plan = sinkhorn_plan(costs, regularization, steps=3000).exp()
    assert (plan.sum(1) - 1).abs().max() < 1e-12
    assert (plan.sum(0) - 1).abs().max() < 1e-5
    kernel = torch.exp(-costs / (regularization * costs.mean()))
    rows = torch.ones(24, dtype=torch.float64)
    for _ in range(3000):
        columns = 1 / (kernel.T @ rows)
        rows = 1 / (kernel @ columns)
    assert (plan - rows[:, None] * kernel * columns).abs().max() < 1e-10


def test_it_does_not_underflow_where_the_plain_iteration_does() -> None:
    images, noise = batch(256, shape=(3, 32, 32))
    costs = squared_distances(images, noise)
    assert (torch.exp(-costs / 0.05) == 0).all()  # the plain kernel at the regularisation that others take
    plan = sinkhorn_plan(costs, 0.05 / float(costs.mean()), steps=20)
    assert plan.isfinite().all()
    assert (plan.exp().sum(1) - 1).abs().max() < 1e-9


def test_sinkhorn_lies_between_independent_and_optimal_and_repeats() -> None:
    images, noise = batch(128)
    found = {name: cost(images, noise, coupling_of(name)(images, noise)) for name in registry.names("coupling")}
    assert found["ot"] <= found["sinkhorn"] < found["independent"]
    again = [coupling_of("sinkhorn")(images, noise) for _ in range(2)]
    assert torch.equal(*again)


def test_an_unknown_coupling_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"type {', '.join(registry.names('coupling'))}, or"):
        coupling_of("???")  # near to none
