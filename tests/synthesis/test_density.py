"""The kernel density over features of pictures: by its formula, its moments, and scipy's conditional Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.synthesis.density import (
    Density,
    given_parts,
    nearest_distance,
    nearest_rows,
    sample_rows,
    unit_rows,
)
from bothways.synthesis.sampling import Part, Space, fit_space


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Fixed:
    """In place of Draws: chosen numbers by purpose, one row a picture."""

    def __init__(self, **values: Tensor) -> None:
        self.values = values

    def integers(self, low: int, high: int, shape: Sequence[int], t: float = 0.0, purpose: str = "") -> Tensor:
        found = self.values[purpose]
        assert low <= int(found.min())
        assert int(found.max()) <= high
        return found[:, None]

    def uniform(self, shape: Sequence[int], t: float = 0.0, purpose: str = "") -> Tensor:
        return self.values[purpose][:, None]

    def normal(self, shape: Sequence[int], t: float = 0.0, purpose: str = "") -> Tensor:
        found = self.values[purpose.replace(" ", "_")]
        assert found.shape[1:] == tuple(shape)
        return found


def nearest_by_scipy(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(order of the others (N,N-1), their distances), by the cosine of rows less their mean."""
    far = scipy.spatial.distance.cdist(rows - rows.mean(0), rows - rows.mean(0), "cosine")
    np.fill_diagonal(far, np.inf)
    order = np.argsort(far, axis=1)[:, :-1]
    return order, np.take_along_axis(far, order, axis=1)


def test_a_point_is_the_formula_of_the_density() -> None:
    rows = normal(12, 7)
    own, turn = torch.tensor([3, 0, 11]), torch.tensor([0, 2, 4])
    mixture, noise = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), normal(3, 12, seed=1)
    draws = Fixed(row=own, neighbour=turn, mixture=mixture, density=noise)
    found = sample_rows({"a": rows}, draws, Density(neighbours=5, share=0.6, width=0.3))  # type: ignore[arg-type]
    order, _ = nearest_by_scipy(rows.numpy())
    centred = rows.numpy() - rows.numpy().mean(0)
    for k in range(3):
        weight = 0.6 + 0.4 * mixture[k].item()
        other = rows.numpy()[order[own[k], turn[k]]]
        wanted = weight * rows.numpy()[own[k]] + (1 - weight) * other + 0.3 * noise[k].numpy() @ centred / math.sqrt(11)
        assert np.abs(found["a"][k].numpy() - wanted).max() < 1e-12


def test_the_noise_of_a_point_has_the_covariance_of_the_rows() -> None:
    rows = normal(6, 4) @ normal(4, 4, seed=2)
    still = {"row": torch.zeros(6, dtype=torch.int64), "neighbour": torch.zeros(6, dtype=torch.int64)}
    draws = Fixed(**still, mixture=torch.ones(6, dtype=torch.float64), density=torch.eye(6, dtype=torch.float64))
    apart = sample_rows({"a": rows}, draws, Density(share=1.0, width=0.7))["a"] - rows[0]  # type: ignore[arg-type]
    assert np.abs((apart.T @ apart).numpy() - 0.49 * np.cov(rows.numpy().T)).max() < 1e-12


def test_without_width_points_lie_between_a_row_and_one_of_its_nearest() -> None:
    rows = normal(15, 9, seed=3)
    found = sample_rows({"a": rows}, Draws(range(400)), Density(neighbours=3, share=0.5, width=0.0))["a"].numpy()
    order, _ = nearest_by_scipy(rows.numpy())
    pairs = [(i, j) for i in range(15) for j in order[i, :3]]
    used = set()
    for point in found:
        fits = []
        for i, j in pairs:
            along = rows.numpy()[i] - rows.numpy()[j]
            weight = (point - rows.numpy()[j]) @ along / (along @ along)
            if 0.5 - 1e-6 <= weight <= 1 + 1e-6 and np.abs(rows.numpy()[j] + weight * along - point).max() < 1e-6:
                fits.append((i, j))
        assert fits
        used |= set(fits)
    assert len({i for i, _ in used}) == 15  # every row is drawn, and most of the neighbours of each
    assert len(used) > 0.8 * len(pairs)


def test_a_point_belongs_to_its_picture_and_its_layers_to_one_pair_of_pictures() -> None:
    rows = {"a": normal(10, 4), "b": normal(10, 3, seed=1)}
    together, alone = (sample_rows(rows, Draws(seeds), Density(width=0.0)) for seeds in ([4, 9, 2], [9]))
    for name in rows:
        assert (together[name][1] - alone[name][0]).abs().max() < 1e-12
    joint = torch.cat([rows["a"], rows["b"]], 1)  # the same rows and the same weight in both
    found = torch.cat([together["a"], together["b"]], 1)
    pairs = torch.combinations(torch.arange(10))
    for point in found:
        best = min(
            float(torch.linalg.lstsq(joint[pair].T, point[:, None]).solution.T.matmul(joint[pair]).sub(point).norm())
            for pair in pairs
        )
        assert best < 1e-5


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_rows_have_fewer_neighbours(count: int) -> None:
    found = sample_rows({"a": normal(count, 5)}, Draws(range(4)), Density())["a"]
    assert found.shape == (4, 5)
    assert torch.isfinite(found).all()


def test_nearest_rows_and_their_distance_are_scipys() -> None:
    rows = normal(30, 6, seed=5)
    order, far = nearest_by_scipy(rows.numpy())
    unit = unit_rows([rows])
    assert np.array_equal(nearest_rows(unit, torch.arange(30), 4).numpy(), order[:, :4])
    assert np.abs(nearest_distance(unit).numpy() - far[:, 0]).max() < 1e-12


def test_the_product_of_two_layers_is_the_mean_of_their_cosines() -> None:
    one, two = normal(5, 4), normal(5, 9, seed=1)
    found = unit_rows([one, two])
    wanted = [1 - scipy.spatial.distance.cdist(r - r.mean(0), r - r.mean(0), "cosine") for r in (one, two)]
    assert np.abs((found @ found.T).numpy() - (wanted[0] + wanted[1]) / 2).max() < 1e-12


# ---- what has no rows ----------------------------------------------------------------------------------------------


def test_the_rest_is_drawn_from_the_conditional_gaussian() -> None:
    factor = 0.7 * torch.nn.functional.normalize(normal(3, 8, seed=1), dim=0)
    seen = torch.tensor([True, False, True, False, False, True, False, False])
    covariance = factor.numpy().T @ factor.numpy()
    np.fill_diagonal(covariance, 1.0)
    k, u = np.where(seen)[0], np.where(~seen)[0]
    gain = covariance[np.ix_(u, k)] @ np.linalg.inv(covariance[np.ix_(k, k)])
    left = covariance[np.ix_(u, u)] - gain @ covariance[np.ix_(k, u)]
    value = normal(11, 3, seed=2)
    each = torch.eye(11, dtype=torch.float64)
    draws = Fixed(sample=each[:, :3], sample_remainder=each[:, 3:])
    found = given_parts(factor, seen, value, draws).numpy()  # type: ignore[arg-type]
    assert np.array_equal(found[:, k], value.numpy())
    apart = found[:, u] - value.numpy() @ gain.T  # a column of the linear map of the draws each
    assert np.abs(apart.T @ apart - left).max() < 1e-12
    still = given_parts(factor, seen, value, draws, temperature=0.0).numpy()  # type: ignore[arg-type]
    assert np.abs(still[:, u] - value.numpy() @ gain.T).max() < 1e-12


def test_a_space_draws_its_rows_by_the_density_and_the_rest_given_them() -> None:
    common = normal(40, 2, seed=1)
    rows = {
        "0/statistics/a": [common @ normal(2, 6, seed=2) + 0.01 * normal(40, 6, seed=3)],
        "0/features/b": [common @ normal(2, 5, seed=4) + 0.01 * normal(40, 5, seed=5)],
        "0/features/outputs": [common @ normal(2, 3, seed=6)],
    }
    space = fit_space(rows, 8, keep=40, names=[f"{k}.png" for k in range(40)])
    assert list(space.rows) == ["0/features/b"]
    assert torch.equal(space.rows["0/features/b"], rows["0/features/b"][0])
    assert space.names[7] == "7.png"
    density = Density(width=0.0, share=1.0)
    found = space.sample(Draws(range(30)), temperature=0.0, density=density)
    assert list(found) == list(space.parts)
    for point, rest in zip(found["0/features/b"], found["0/statistics/a"], strict=True):
        place = (rows["0/features/b"][0] - point).norm(dim=1).argmin()
        assert torch.allclose(rows["0/features/b"][0][place], point, atol=1e-6)
        assert ((rest - rows["0/statistics/a"][0][place]).abs() < 0.05 * rows["0/statistics/a"][0].std(0)).all()


def test_some_rows_are_kept_evenly_spaced() -> None:
    rows = {"0/features/b": [normal(9, 2)]}
    some = fit_space(rows, 2, keep=3)
    assert torch.equal(some.rows["0/features/b"], rows["0/features/b"][0][[0, 4, 8]])
    assert some.names == ("0", "4", "8")
    assert (fit_space(rows, 2).rows, fit_space(rows, 2).names) == ({}, ())
    alone = Space({"0/features/b": Part(torch.zeros(2), torch.ones(2))}, torch.zeros(0, 2), some.rows)
    assert alone.sample(Draws([0]), density=Density())["0/features/b"].shape == (1, 2)


def test_logits_are_the_rows_of_a_model_without_features() -> None:
    assert list(fit_space({"0/features/outputs": [normal(4, 3)]}, 2, keep=4).rows) == ["0/features/outputs"]
