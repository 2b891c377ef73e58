"""The Gaussian of what a model measures: fitted against numpy and scipy, drawn against its own formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import torch
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.synthesis.objectives.terms import TermSum
from bothways.synthesis.sampling import (
    SMALLEST_LOG_STD,
    SMALLEST_MEAN_STD,
    Part,
    Space,
    features_name,
    head_space,
    leading_directions,
    measure_space,
    statistics_name,
    toward_features,
)
from bothways.synthesis.statistics import measure_spread, spread_statistics
from bothways.types import ModelSpec, UserError

SPEC = ModelSpec(8, (0.5,) * 3, (0.25,) * 3, 4, feature_layer="3")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(seed: int, width: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 6, 3, stride=2)
        return nn.Sequential(first, nn.BatchNorm2d(width), nn.SiLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture(scope="module")
def model() -> Adapter:
    net = nn.Sequential(*network(0), nn.Linear(6, 4)).double().requires_grad_(False)
    return Adapter(net, SPEC)


@pytest.fixture(scope="module")
def space() -> Space:
    """Seven numbers in two parts, three directions: one number is all of one direction, one is in none."""
    factor = 0.6 * torch.nn.functional.normalize(normal(3, 7, seed=1), dim=0)
    factor[:, 0], factor[:, 6] = torch.tensor([1.0, 0.0, 0.0]), 0.0
    parts = {
        "0/statistics/a": Part(normal(4, seed=2), normal(4, seed=3).exp()),
        "0/features/b": Part(normal(3, seed=4), normal(3, seed=5).exp()),
    }
    return Space(parts, factor)


def joined(point: dict[str, Tensor]) -> Tensor:
    return torch.cat(list(point.values()), dim=1)


def formula(space: Space, temperature: float, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean (S,), covariance (S,S)) in numpy: T^2 D (F'F + R) D, with F'F shrunk and R what is left of a variance."""
    mean, std = (np.concatenate([getattr(p, k).numpy() for p in space.parts.values()]) for k in ("mean", "std"))
    correlation = (1 - shrinkage) * space.factor.numpy().T @ space.factor.numpy()
    np.fill_diagonal(correlation, 1.0)
    return mean, temperature**2 * np.diag(std) @ correlation @ np.diag(std)


# ---- drawing -------------------------------------------------------------------------------------------------------


class Basis:
    """In place of Draws: each unit vector of all the numbers that are drawn, one a picture."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def normal(self, shape: Sequence[int], t: float = 0.0, purpose: str = "") -> Tensor:
        place = {"sample": 0, "sample remainder": 1}[purpose]
        assert tuple(shape) == (self.lengths[place],)
        return torch.eye(sum(self.lengths)).split(self.lengths, dim=1)[place]


@pytest.mark.parametrize(("temperature", "shrinkage"), [(1.0, 0.0), (1.3, 0.0), (0.5, 0.4), (1.0, 1.0)])
def test_the_linear_map_of_a_draw_squares_to_the_covariance(space: Space, temperature: float, shrinkage: float) -> None:
    mean, covariance = formula(space, temperature, shrinkage)
    columns = joined(space.sample(Basis(3, 7), temperature, shrinkage)).numpy() - mean  # type: ignore[arg-type]
    assert np.abs(columns.T @ columns - covariance).max() < 1e-12


def test_many_draws_have_the_moments_of_the_gaussian(space: Space) -> None:
    count, temperature, shrinkage = 20_000, 1.2, 0.25
    mean, covariance = formula(space, temperature, shrinkage)
    drawn = joined(space.sample(Draws(range(count)), temperature, shrinkage)).numpy()
    std = np.sqrt(np.diag(covariance))
    found = np.cov(drawn.T) / np.outer(std, std)
    assert np.abs((drawn.mean(0) - mean) / std).max() < 5 / math.sqrt(count)
    assert np.abs(found - covariance / np.outer(std, std)).max() < 5 * math.sqrt(2 / count)
    # a Gaussian, not only its first two moments: the length of a whitened draw is chi-squared
    whitened = scipy.linalg.solve_triangular(np.linalg.cholesky(covariance), (drawn - mean).T, lower=True)
    assert abs((whitened**2).sum(0).var() - 14) < 14 * 5 * math.sqrt(3 / count)


def test_temperature_zero_is_the_mean_of_every_part(space: Space) -> None:
    for name, value in space.sample(Draws(range(3)), temperature=0).items():
        assert torch.equal(value, space.parts[name].mean.expand(3, -1))


def test_a_point_belongs_to_its_picture(space: Space) -> None:
    together = space.sample(Draws([4, 9, 2]))
    alone = space.sample(Draws([9]))
    assert {name: tuple(v.shape) for name, v in together.items()} == {"0/statistics/a": (3, 4), "0/features/b": (3, 3)}
    for name, value in alone.items():
        assert (value[0] - together[name][1]).abs().max() < 1e-12


def test_the_halves_of_a_part_are_means_and_log_standard_deviations() -> None:
    spread = Part(torch.arange(6.0), 10 + torch.arange(6.0)).spread()
    assert [v.tolist() for v in (spread.mean, spread.log_std)] == [[0, 1, 2], [3, 4, 5]]
    assert [v.tolist() for v in (spread.mean_std, spread.log_std_std)] == [[10, 11, 12], [13, 14, 15]]


# ---- the leading directions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (12, 12), (2, 9)])
@pytest.mark.parametrize("rank", [1, 4, 100])
def test_leading_directions_are_numpys_singular_vectors(shape: tuple[int, int], rank: int) -> None:
    rows = normal(*shape) * torch.linspace(1, 3, shape[1])
    rows = rows - rows.mean(0)
    _, values, right = np.linalg.svd(rows.numpy() / math.sqrt(shape[0] - 1), full_matrices=False)
    kept = min(rank, int((values > 1e-4 * values[0]).sum()))
    found = leading_directions(rows, rank).numpy()
    assert found.shape == (kept, shape[1])
    assert np.abs(np.linalg.norm(found, axis=1) - values[:kept]).max() < 1e-10
    best = (right[:kept].T * values[:kept] ** 2) @ right[:kept]
    assert np.abs(found.T @ found - best).max() < 1e-10
    gram = found @ found.T
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-10


def test_all_directions_together_are_scipys_covariance() -> None:
    rows = normal(9, 5, seed=7)
    rows = rows - rows.mean(0)
    found = leading_directions(rows, 64)
    assert np.abs((found.T @ found).numpy() - np.cov(rows.numpy().T)).max() < 1e-12
    values = scipy.linalg.eigvalsh(np.cov(rows.numpy().T))[::-1]
    assert np.abs(found.square().sum(1).numpy() - values).max() < 1e-12


@pytest.mark.parametrize("shape", [(10, 60), (60, 40)])
def test_the_signs_of_directions_outlast_rounding(shape: tuple[int, int]) -> None:
    """Features of another device differ in their last bits: one seed has to draw the same sample of both."""
    rows = normal(*shape) * torch.linspace(1, 3, shape[1])
    rows = rows - rows.mean(0)
    moved = rows * (1 + 1e-6 * normal(*shape, seed=3))
    assert (leading_directions(rows, 9) - leading_directions(moved, 9)).abs().max() < 1e-4


def test_no_direction_of_what_does_not_vary() -> None:
    assert leading_directions(torch.zeros(4, 6), 3).shape == (0, 6)
    flat = Space({"0/features/a": Part(torch.ones(6), torch.ones(6))}, torch.zeros(0, 6))
    assert flat.sample(Draws([0, 1]))["0/features/a"].std() > 0.5


# ---- fitting -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images() -> Tensor:
    brightness = torch.rand(30, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    grain = torch.rand(30, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    return (0.7 * brightness + 0.3 * grain).clamp(0, 1)


def measured_by_hand(model: Adapter, images: Tensor) -> dict[str, np.ndarray]:
    """What a part holds, from whole maps, in numpy."""
    with torch.no_grad():
        seen = {k: v.numpy() for k, v in model.features(images, ["0", "1:input", "3"]).items()}
    rows = {}
    for layer in ("0", "1:input"):
        flat = seen[layer].reshape(len(images), seen[layer].shape[1], -1)
        rows[statistics_name(layer)] = np.concatenate([flat.mean(2), 0.5 * np.log(flat.var(2) + 1e-5)], axis=1)
    return {**rows, features_name("3"): seen["3"].mean((2, 3))}


def test_a_space_has_the_mean_and_the_spread_of_real_pictures(model: Adapter, images: Tensor) -> None:
    space = measure_space([model], images, [["0", "1:input"]], [["3"]])
    rows = measured_by_hand(model, images)
    assert list(space.parts) == list(rows)
    for name, part in space.parts.items():
        assert np.abs(part.mean.numpy() - rows[name].mean(0)).max() < 1e-12
        least = np.full(rows[name].shape[1], SMALLEST_MEAN_STD)
        if name != features_name("3"):
            least[len(least) // 2 :] = SMALLEST_LOG_STD
        assert np.abs(part.std.numpy() - least - rows[name].std(0, ddof=1)).max() < 1e-12
    together = np.concatenate(list(rows.values()), axis=1)
    std = np.concatenate([part.std.numpy() for part in space.parts.values()])
    wanted = np.cov(together.T) / np.outer(std, std)
    assert np.abs((space.factor.T @ space.factor).numpy() - wanted).max() < 1e-10
    assert space.factor.square().sum(0).max() <= 1


def test_bytes_are_pictures_too(images: Tensor) -> None:
    single = Adapter(nn.Sequential(*network(1, 4), nn.Linear(6, 4)), SPEC)
    whole = (255 * images).round().to(torch.uint8)
    spaces = [measure_space([single], some, [["0"]], [[]]) for some in (whole, whole.float() / 255)]
    assert (spaces[0].factor - spaces[1].factor).abs().max() == 0


def test_two_models_are_measured_on_the_same_pictures(model: Adapter, images: Tensor) -> None:
    other = Adapter(nn.Sequential(*network(1, 4), nn.Linear(6, 4)).double(), SPEC)
    both = measure_space([model, other], images, [["0"], ["0", "1:input"]], [[], ["3"]])
    assert list(both.parts) == [f"{i}/statistics/{layer}" for i, layer in ((0, "0"), (1, "0"), (1, "1:input"))] + [
        "1/features/3"
    ]
    alone = measure_space([other], images, [["0", "1:input"]], [["3"]])
    for name, part in alone.parts.items():
        assert torch.equal(both.parts[name.replace("0/", "1/", 1)].mean, part.mean)
    names = ["0/statistics/0", "1/statistics/0"]
    rows = np.concatenate([measured_by_hand(m, images)[statistics_name("0")] for m in (model, other)], axis=1)
    std = np.concatenate([both.parts[name].std.numpy() for name in names])
    found = both.factor[:, : len(std)]  # what two models see of one picture hangs together
    wanted = np.cov(rows.T) / np.outer(std, std)
    assert np.abs((found.T @ found).numpy() - wanted).max() < 1e-10
    assert np.abs(wanted[:10, 10:]).max() > 0.3


def test_one_picture_has_no_spread(model: Adapter, images: Tensor) -> None:
    with pytest.raises(UserError, match="two real images or more, not 1"):
        measure_space([model], images[:1], [["0"]], [[]])
    assert len(measure_space([model], images[:2], [["0"]], [[]]).factor) == 1


# ---- what is wanted of a picture -----------------------------------------------------------------------------------


def test_toward_features_is_scipys_cosine_and_has_its_gradient(model: Adapter, images: Tensor) -> None:
    centre, target = normal(6, seed=11), normal(2, 6, seed=12)
    term = toward_features(model, "3", centre, target)
    features = measured_by_hand(model, images[:2])[features_name("3")]
    wanted = [
        1 - scipy.spatial.distance.cosine(f - centre.numpy(), t - centre.numpy())
        for f, t in zip(features, target.numpy(), strict=True)
    ]
    assert np.abs(term(images[:2]).numpy() - wanted).max() < 1e-12
    leaf = images[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(term, leaf, fast_mode=True)


def test_copies_of_a_picture_share_its_target(model: Adapter, images: Tensor) -> None:
    centre, target = normal(6, seed=11), normal(2, 6, seed=12)
    spread = measure_spread(model, images, ["0"])
    wanted = {"0": normal(2, 10, seed=13)}
    terms = (toward_features(model, "3", centre, target), spread_statistics(model, spread, wanted))
    together = TermSum(terms).values(images[:2], images[:6])  # three copies each
    for i in range(2):
        mine = {"0": wanted["0"][i : i + 1].expand(3, -1)}
        one_by_one = (
            toward_features(model, "3", centre, target[i : i + 1].expand(3, -1)),
            spread_statistics(model, spread, mine),
        )
        for value, term in zip(together, one_by_one, strict=True):
            assert (value[i] - term(images[3 * i : 3 * i + 3]).mean()).abs() < 1e-12


def test_statistics_that_are_met_are_worth_zero_and_others_their_squared_distance(
    model: Adapter, images: Tensor
) -> None:
    space = measure_space([model], images, [["0", "1:input"]], [[]])
    rows = measured_by_hand(model, images[:3])
    spread = {layer: space.parts[statistics_name(layer)].spread() for layer in ("0", "1:input")}
    met = {layer: torch.from_numpy(rows[statistics_name(layer)]) for layer in spread}
    assert spread_statistics(model, spread, met)(images[:3]).abs().max() < 1e-20
    drawn = space.sample(Draws(range(3)))
    targets = {layer: drawn[statistics_name(layer)] for layer in spread}
    found = spread_statistics(model, spread, targets)(images[:3])
    wanted = np.mean(
        [
            (((rows[name] - drawn[name].numpy()) / space.parts[name].std.numpy()) ** 2).mean(1)
            for name in map(statistics_name, spread)
        ],
        axis=0,
    )
    assert np.abs(found.numpy() + wanted).max() < 1e-10
    means = {layer: space.parts[statistics_name(layer)].mean.expand(3, -1) for layer in spread}
    apart = spread_statistics(model, spread)(images[:3]) - spread_statistics(model, spread, means)(images[:3])
    assert apart.abs().max() < 1e-12


# ---- for want of real pictures -------------------------------------------------------------------------------------


def test_the_space_of_a_head_lies_where_its_rows_do() -> None:
    rows = normal(4, 9, seed=14)
    space = head_space(rows, "head:input")
    (name,) = space.parts
    assert name == features_name("head:input")
    assert space.parts[name].mean.abs().max() == 0
    centred = (rows - rows.mean(0)).numpy()
    std = centred.std(0, ddof=1) + SMALLEST_MEAN_STD
    assert np.abs(space.parts[name].std.numpy() - std).max() < 1e-12
    assert space.factor.shape == (3, 9)  # four rows about their mean
    wanted = np.cov(rows.numpy().T) / np.outer(std, std)
    assert np.abs((space.factor.T @ space.factor).numpy() - wanted).max() < 1e-12
    drawn = space.sample(Draws(range(200)), temperature=1.0)[name].numpy()
    basis = np.linalg.svd(centred, full_matrices=False)[2][:3]
    along = ((drawn @ basis.T) ** 2).sum(1) / (drawn**2).sum(1)
    assert np.median(along) > 0.99
