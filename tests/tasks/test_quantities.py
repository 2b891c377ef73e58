"""The scorecard's measures on quantities whose answers are known, and its quantities against plain autograd."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor

import bothways
from bothways.numerics.draws import Draws
from bothways.synthesis.statistics import measure_spread
from bothways.tasks.scorecard import quantities as scorecard
from bothways.tasks.scorecard.quantities import (
    Condition,
    Quantity,
    Score,
    label_free_quantities,
    random_control,
    score_quantity,
)
from bothways.types import UserError

TOY = Path(__file__).resolve().parents[1] / "toy_model.py"
LEVELS = (0.1, 0.3)


@pytest.fixture(scope="module")
def toy():
    return bothways.load_model(f"{TOY}:build")


def pictures(count: int, side: int = 16) -> Tensor:
    return Draws(range(count)).uniform((3, side, side))


def noisy(level: float) -> Condition:
    return Condition(f"noise {level}", lambda x, draws: x + level * draws.normal(x.shape[1:], purpose="n").to(x), level)


CONDITIONS = [*map(noisy, LEVELS), Condition("dark", lambda x, _draws: 0.5 * x)]


def scored(quantity: Quantity, images: Tensor) -> tuple[int, Score]:
    """How many frames, and the score."""
    frames, count = score_quantity(quantity, images, CONDITIONS, range(len(images))), 0
    while True:
        try:
            frame = next(frames)
            count += 1
            assert frame.step == count
        except StopIteration as end:
            return count, end.value


def distance_from(centre: Tensor, sign: float = 1.0) -> Quantity:
    """value +- 1/2 ||x - centre||^2, whose direction leads to the centre or away from it."""

    def measure(x: Tensor, draws: Draws, t: float) -> tuple[Tensor, Tensor]:
        return sign * 0.5 * (x - centre).square().sum((1, 2, 3)), sign * (centre - x)

    return Quantity("distance", measure)


# ---- the measures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "best"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_true_distance_scores_best_and_its_opposite_worst(sign, best) -> None:
    centre = torch.full((3, 16, 16), 0.4)
    images = centre + 0.01 * pictures(12)
    count, score = scored(distance_from(centre, sign), images)
    assert count == 4
    assert abs(score.spearman.value - sign * math.sqrt(1 - 1 / 9)) < 2e-3  # the most against three levels, about
    assert [e.value for e in score.auroc.values()] == [best, best, best]
    assert list(score.auroc) == ["noise 0.1", "noise 0.3", "dark"]
    assert list(score.cosine) == list(LEVELS)
    assert max(abs(e.value - sign) for e in score.cosine.values()) < 0.02


def test_the_control_points_nowhere() -> None:
    images = pictures(60)
    _, score = scored(random_control(), images)
    deviation = 1 / math.sqrt(images[0].numel() * len(images))  # of the mean cosine of random directions
    assert max(abs(e.value) for e in score.cosine.values()) < 4 * deviation
    assert all(abs(e.high - e.low - 4 * deviation) < 1.5 * deviation for e in score.cosine.values())
    assert max(abs(e.value - 0.5) for e in score.auroc.values()) < 0.2
    assert score.spearman.low < 0 < score.spearman.high


def test_the_score_does_not_depend_on_the_chunks(toy, monkeypatch) -> None:
    images = pictures(4)
    for quantity in (random_control(), label_free_quantities(toy)[0]):
        whole, first = scored(quantity, images)
        with monkeypatch.context() as patched:
            patched.setattr(scorecard, "PICTURES_AT_ONCE", 2)
            parts, second = scored(quantity, images)
        assert (whole, parts) == (4, 8)
        both = [[s.spearman, *s.auroc.values(), *s.cosine.values()] for s in (first, second)]
        assert np.abs(np.subtract(*both)).max() < 1e-4


def test_a_direction_of_nothing_has_the_cosine_nought() -> None:
    still = Quantity("still", lambda x, draws, t: (x.new_ones(len(x)), torch.zeros_like(x)))
    _, score = scored(still, pictures(5))
    assert all(e.value == 0.0 for e in score.cosine.values())
    assert all(e.value == 0.5 for e in score.auroc.values())
    assert math.isnan(score.spearman.value)


# ---- the quantities ------------------------------------------------------------------------------------------------


def by_name(model, name: str, **given) -> Quantity:
    return next(q for q in label_free_quantities(model, **given) if q.name == name)


def double(toy):
    return bothways.load_model(toy.module.double(), toy.spec)


@pytest.fixture
def exact():
    """The toy in float64, where a difference of values shows the gradient."""
    return double(bothways.load_model(f"{TOY}:build"))


def test_every_direction_is_minus_the_gradient_of_its_value(exact) -> None:
    images, draws = pictures(2).double(), Draws(range(2))
    spread = measure_spread(exact, pictures(12).double(), exact.statistics_layers())
    step = 1e-5 * Draws([8, 9]).normal((3, 16, 16)).double()
    quantities = label_free_quantities(exact, spread, exact.batch_norm_statistics())
    assert len(quantities) == 17
    for quantity in quantities[:-1]:
        if quantity.name in ("DSF, rolls, flips, noise", "DSF, lambda held", scorecard.RANDOM_LAMBDA):
            continue  # clipped noise has a corner; a lambda that is held is not differentiated
        _, direction = quantity.measure(images, draws, 0.0)
        ahead, behind = (quantity.measure(images + side * step, draws, 0.0)[0] for side in (1, -1))
        slope, wanted = (ahead - behind) / 2, -(direction * step).sum((1, 2, 3))
        assert (slope - wanted).abs().max() < 1e-5 * wanted.abs().max(), quantity.name


def test_values_of_the_logits_are_those_of_scipy(exact) -> None:
    images, draws = pictures(3).double(), Draws(range(3))
    logits = exact.outputs(images).detach().numpy()
    energy, _ = by_name(exact, "energy").measure(images, draws, 0.0)
    assert np.abs(energy.numpy() + logsumexp(logits, axis=1)).max() < 1e-12
    least, _ = by_name(exact, "minus max probability").measure(images, draws, 0.0)
    assert np.abs(np.exp(-least.numpy()) - softmax(logits, axis=1).max(1)).max() < 1e-12


def test_batch_norm_statistics_are_of_each_picture_alone(exact) -> None:
    images, stored = pictures(3).double(), exact.batch_norm_statistics()
    found, _ = by_name(exact, "BatchNorm statistics", stored=stored).measure(images, Draws(range(3)), 0.0)
    seen = exact.features(images, list(stored))
    for k in range(3):
        wanted = sum(
            (seen[layer][k].mean((1, 2)) - mean).norm() + (seen[layer][k].var((1, 2), unbiased=False) - var).norm()
            for layer, (mean, var) in stored.items()
        )
        assert abs(found[k] - wanted) < 1e-12


def test_the_angle_is_that_of_the_parameter_gradient(exact) -> None:
    images = pictures(2).double()
    found, _ = by_name(exact, "DSF, angle").measure(images, Draws(range(2)), 0.0)
    weights = dict(exact.module.named_parameters())
    for k in range(2):
        live, target = exact.outputs(images[k : k + 1].flip(-1)), exact.outputs(images[k : k + 1]).detach()
        gradient = torch.autograd.grad(0.5 * (live - target).square().sum(), list(weights.values()))
        g, theta = (torch.cat([part.flatten() for part in parts]) for parts in (gradient, weights.values()))
        assert abs(found[k] - (1 - torch.nn.functional.cosine_similarity(g, -theta, dim=0))) < 1e-9


def test_the_last_layer_is_the_head(toy) -> None:
    images, draws = pictures(2), Draws(range(2))
    norm, score = by_name(toy, "DSF, last layer").measure(images, draws, 0.0)
    wanted = bothways.dsf_score(toy, images, parameters="head.*")
    assert torch.equal(score, wanted[0])
    assert torch.equal(norm, wanted[1])


def test_a_held_lambda_is_compared_with_a_random_one(toy) -> None:
    held, other = by_name(toy, "DSF, lambda held"), by_name(toy, scorecard.RANDOM_LAMBDA)
    assert (held.beside, other.beside) == (scorecard.RANDOM_LAMBDA, scorecard.CONTROL)
    images = pictures(2)
    for quantity, residual in ((held, "held"), (other, "random")):
        found = quantity.measure(images, Draws([3, 4]), 2.0)[1]
        assert torch.equal(found, bothways.dsf_score(toy, images, residual=residual, draws=Draws([3, 4]), t=2.0)[0])


def test_shrinking_to_grey(toy) -> None:
    images = pictures(3)
    value, direction = by_name(toy, scorecard.GREY).measure(images, Draws(range(3)), 0.0)
    assert torch.equal(direction, 0.5 - images)
    assert (value - 0.5 * ((images - 0.5) ** 2).sum((1, 2, 3))).abs().max() < 1e-4


def test_rows_follow_what_the_model_has(toy) -> None:
    spread = measure_spread(toy, pictures(4), toy.statistics_layers())
    everything = [q.name for q in label_free_quantities(toy, spread, toy.batch_norm_statistics())]
    assert everything[-1] == scorecard.CONTROL
    assert len(set(everything)) == 17
    plain = bothways.load_model(toy.module, replace(toy.spec, classes=0, feature_layer=None))
    left = [q.name for q in label_free_quantities(plain)]
    gone = {"DSF, KL", "DSF, pseudo-label", "DSF, features", "energy", "minus max probability"}
    assert set(everything) - set(left) == gone | {"BatchNorm statistics", "channel statistics"}


def test_an_unknown_engine_is_refused_by_the_score(toy) -> None:
    with pytest.raises(UserError):
        label_free_quantities(toy, engine="triple")[0].measure(pictures(1), Draws([0]), 0.0)
