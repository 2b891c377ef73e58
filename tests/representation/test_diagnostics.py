"""Straightness, round trip, gain and information of flows whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from bothways import registry
from bothways.models.nets.unet import UNet
from bothways.numerics.draws import Draws, generator
from bothways.representation.diagnostics import jacobian_gain, paths, round_trip, side_by_side, straightness, strips
from bothways.representation.information import Information, at_depths, denoised, mutual_information_indicator
from bothways.representation.paths import interpolate, path_of
from bothways.types import UserError
from closed_flows import MixtureFlow, PixelGaussian, gaussian, picture_flow

TURNED = [[1.5, 0.6], [0.6, 0.5]]


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(11), dtype=torch.float64)


# ---- straightness --------------------------------------------------------------------------------------------------


def test_straight_paths_at_even_speed_count_nothing() -> None:
    aim = normal(2)
    found = straightness(lambda x, t: aim.expand_as(x), normal(9, 2), steps=7)
    assert found.total.value < 1e-28
    # paths that are straight but end apart: x_t = x_0 (1 + t)
    apart = straightness(lambda x, t: x / (1 + t[:, None]), normal(9, 2), steps=200)
    assert apart.total.value < 1e-9


@pytest.mark.parametrize("path", ["linear", "gvp"])
def test_straightness_of_a_gaussian_is_an_integral(path) -> None:
    """x_t = a m + r x_0 with r^2 = a^2 c + s^2, so the residual is known at every t: scipy adds it up."""
    mean, variance, noise = 1.5, 0.25, normal(30, 1)
    found = straightness(gaussian([mean], [[variance]], path), noise, steps=200, batch=7)

    def at(t: float) -> tuple[float, float, float]:  # a', r', r
        a, s, da, ds = (w.item() for w in path_of(path)(torch.tensor(t, dtype=torch.float64)))
        r = math.sqrt(a * a * variance + s * s)
        return da, (a * da * variance + s * ds) / r, r

    def residual(t: float, x: float) -> float:
        da, dr, _ = at(t)
        return (mean + (math.sqrt(variance) - 1) * x - da * mean - dr * x) ** 2

    expected = torch.tensor([quad(residual, 0, 1, args=(x,))[0] for x in noise.flatten().tolist()])
    assert (found.each - expected).abs().max() < 1e-4
    facts = found.as_facts()
    assert abs(facts["total"] - expected.mean().item()) < 1e-4
    assert facts["low"] < facts["total"] < facts["high"]
    middle = sum(residual(0.5, x) for x in noise.flatten().tolist()) / 30
    assert abs(facts["profile"][100] - middle) < 1e-4
    assert facts["times"][100] == 0.5


def test_straightness_is_given_whole_and_per_dimension() -> None:
    flow = picture_flow(PixelGaussian(0.0, 0.25), 4)
    found = straightness(flow, Draws(range(5)).normal((3, 4, 4)), steps=10).as_facts()
    assert (found["dims"], found["n"], found["steps"]) == (48, 5, 10)
    assert abs(found["total"] / 48 - found["per_dim"]) < 1e-12


# ---- there and back ------------------------------------------------------------------------------------------------


def test_a_round_trip_loses_less_by_the_solvers_order() -> None:
    flow = picture_flow(PixelGaussian(0.3, 0.5), 4).double()
    images = torch.rand(6, 3, 4, 4, generator=generator(2), dtype=torch.float64)
    for solver, order in (("euler", 1), ("midpoint", 2)):
        rows = round_trip(flow, images, [0.5, 1.0], [20, 40], solver=solver, batch=4)
        assert [(row.depth, row.steps) for row in rows] == [(0.5, 20), (0.5, 40), (1.0, 20), (1.0, 40)]
        assert rows[2].rms / rows[3].rms > 0.8 * 2**order
        assert rows[0].rms < rows[2].rms <= rows[2].largest
    times = torch.linspace(1, 0.5, 21, dtype=torch.float64)
    x = y = flow.code(images)
    for t, h in zip(times[:-1], times.diff(), strict=True):
        x = x + h * flow(x, t.expand(6))
    for t, h in zip(times.flip(0)[:-1], times.flip(0).diff(), strict=True):
        x = x + h * flow(x, t.expand(6))
    lost = flow.picture(x) - flow.picture(y)
    first = round_trip(flow, images, [0.5], [20], solver="euler")[0]
    assert abs(first.rms - lost.square().mean().sqrt().item()) < 1e-12
    assert abs(first.largest - lost.abs().max().item()) < 1e-12


def test_a_grey_flow_is_judged_by_the_grey_picture() -> None:
    flow = picture_flow(PixelGaussian(0.0, 1.0), 4, grey=True)
    images = torch.rand(2, 3, 4, 4, generator=generator(2))
    assert round_trip(flow, images, [0.01], [1])[0].largest < 1e-3  # its colours are not a loss of the walk


# ---- the gain ------------------------------------------------------------------------------------------------------


def test_the_gain_of_a_gaussian_is_its_spread_over_the_sources() -> None:
    flow, x = gaussian([0.5, -1.0], TURNED), normal(400, 2)
    eigenvalues = torch.linalg.eigvalsh(torch.tensor(TURNED, dtype=torch.float64))
    for row in jacobian_gain(flow, x, range(400), [0.25, 0.5, 1.0], steps=30, probes=2, batch=250):
        t = 1 - row.depth
        expected = ((t * t * eigenvalues + (1 - t) ** 2) / eigenvalues).mean().sqrt().item()
        assert row.low < expected < row.high or abs(row.gain - expected) < 1e-3 * expected
        assert abs(row.gain - expected) < 0.03 * expected
        assert row.high - row.low < 0.2


def test_the_gain_of_equal_stretching_is_exact_and_one_at_the_image() -> None:
    flow, x = gaussian([1.0, 2.0], [[0.25, 0.0], [0.0, 0.25]]), normal(3, 2)
    near, far = jacobian_gain(flow, x, range(3), [1e-6, 1.0], solver="rk4", steps=16)
    assert abs(near.gain - 1) < 1e-5
    assert abs(far.gain - 2) < 1e-4  # from a deviation of 1/2 to one of 1
    assert abs(far.high - far.low) < 1e-6


def test_the_gain_of_a_network_is_its_jacobian_s() -> None:
    network = UNet(channels=1, width=32, multiples=(1, 2), blocks=1, attention=(2,)).double().eval()
    source = generator(7)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=source, dtype=torch.float64) * 0.1
    x = normal(1, 1, 4, 4)

    def walk(y: torch.Tensor) -> torch.Tensor:
        for step in range(3):
            y = y - network(y, torch.tensor([1 - step / 4], dtype=torch.float64)) / 4
        return y

    jacobian = torch.autograd.functional.jacobian(walk, x).reshape(16, 16)
    expected = (jacobian.norm() / 4).item()
    (found,) = jacobian_gain(network, x.expand(100, 1, 4, 4), range(100), [0.75], solver="euler", steps=3, batch=100)
    assert abs(found.gain - expected) < 0.05 * expected
    assert found.low < expected < found.high
    (alone,) = jacobian_gain(network, x, [3], [0.75], solver="euler", steps=3, probes=2)
    assert abs(alone.gain - expected) < expected
    assert math.isnan(alone.low)  # one picture has no interval
    assert all(parameter.grad is None for parameter in network.parameters())


# ---- the information -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["linear", "gvp", "vp"])
def test_the_information_of_a_gaussian_is_half_a_log_determinant(path) -> None:
    flow = gaussian([0.5, -1.0], TURNED, path)
    with torch.random.fork_rng():
        torch.random.manual_seed(1)
        x = flow.source().sample((4000,))
    rows = mutual_information_indicator(flow, path_of(path), x, range(4000), points=24, batch=1500)
    assert (rows[0].depth, len(rows)) == (pytest.approx(1.0), 24)
    for row in rows:
        covariance = row.snr * torch.tensor(TURNED, dtype=torch.float64)
        expected = torch.logdet(torch.eye(2, dtype=torch.float64) + covariance).item() / 2 / 2  # a dimension
        assert abs(row.nats_per_dim - expected) < 0.01 + 0.01 * expected
        assert row.low <= row.nats_per_dim <= row.high
    assert rows[-1].depth == pytest.approx(0.02, abs=1e-6)
    assert rows[-1].nats_per_dim > 1


def test_the_information_of_two_points_is_one_bit() -> None:
    points = MixtureFlow(torch.tensor([[-2.0], [2.0]]), torch.full((2, 1, 1), 1e-6), (0.5, 0.5))
    x = torch.tensor([[-2.0], [2.0]], dtype=torch.float64).repeat(800, 1)
    rows = mutual_information_indicator(
        points, path_of("linear"), x, range(1600), points=40, least_depth=0.1, batch=1600
    )
    assert abs(rows[-1].nats_per_dim - math.log(2)) < 0.03


@pytest.mark.parametrize("path", registry.names("path"))
def test_the_denoiser_undoes_the_path(path) -> None:
    """Given the one velocity of a known pair, it gives back the picture of the pair."""
    image, noise, t = normal(3, 2), normal(3, 2).flip(0), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    place, velocity = interpolate(path_of(path), image, noise, t)
    assert (denoised(lambda x, t: velocity, path_of(path), place, t) - image).abs().max() < 1e-9


@pytest.mark.parametrize("path", ["linear", "gvp", "vp"])
def test_the_curve_is_read_off_at_any_depth(path) -> None:
    """Half a logarithm, a source's of unit variance, is a straight line there: read off without an error."""
    ratios = [0.0, 0.3, 2.0, 40.0, 1e4]
    halves = [math.log1p(ratio) / 2 for ratio in ratios]
    curve = [
        Information(0.5, ratio, 1.0, half, half - 1, half + 1, 9) for ratio, half in zip(ratios, halves, strict=True)
    ]
    for depth, row in zip((0.1, 0.25, 0.5, 0.9), at_depths(curve, path_of(path), (0.1, 0.25, 0.5, 0.9)), strict=True):
        a, s, _, _ = path_of(path)(torch.tensor([1 - depth], dtype=torch.float64))
        assert abs(row.snr - (a / s).item() ** 2) < 1e-9 * row.snr
        assert abs(row.nats_per_dim - math.log1p(row.snr) / 2) < 1e-12
        assert abs(row.low - row.nats_per_dim + 1) < 1e-12
        assert abs(row.high - row.nats_per_dim - 1) < 1e-12
        assert (row.depth, row.n) == (depth, 9)


def test_a_worse_flow_only_adds_to_the_indicator() -> None:
    flow, x = gaussian([0.0, 0.0], TURNED), normal(500, 2) @ torch.linalg.cholesky(torch.tensor(TURNED).double()).T
    right = mutual_information_indicator(flow, path_of("linear"), x, range(500), points=8)
    wrong = mutual_information_indicator(
        gaussian([1.0, 0.0], [[0.5, 0.0], [0.0, 0.5]]), path_of("linear"), x, range(500), points=8
    )
    assert all(w.nats_per_dim > r.nats_per_dim for w, r in zip(wrong[1:], right[1:], strict=True))


# ---- what is looked at ---------------------------------------------------------------------------------------------


def test_paths_lead_from_the_data_to_noise() -> None:
    flow, x = gaussian([0.5, -1.0], [[4.0, 0.0], [0.0, 0.25]]), normal(7, 2)
    found = paths(flow, x, steps=100, kept=5)
    assert found.depths == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (found.states[0] - x).abs().max() == 0
    expected = (x - torch.tensor([0.5, -1.0])) / torch.tensor([2.0, 0.5])
    assert (found.states[-1] - expected).abs().max() < 1e-3
    facts = found.as_facts(range(7))
    assert (len(facts["points"]), len(facts["paths"]), len(facts["paths"][0])) == (7, 7, 5)
    assert facts["points"][3] == facts["paths"][3][0]
    assert len(paths(flow, x, steps=3).states) == 4


def test_strips_begin_with_the_picture_and_end_in_noise() -> None:
    flow = picture_flow(PixelGaussian(0.0, 0.25), 4).double()
    images = torch.rand(2, 3, 4, 4, generator=generator(2), dtype=torch.float64)
    found = strips(flow, images, [0, 0.5, 1.0], steps=200)
    assert found.shape == (3, 2, 3, 4, 4)
    assert (found[0] - images).abs().max() < 1e-12
    expected = flow.picture(2 * flow.code(images)).clamp(0, 1)  # a deviation of 1/2 becomes 1
    assert (found[2] - expected).abs().max() < 1e-3
    assert found.min() >= 0
    assert found.max() <= 1
    rows = side_by_side(found)
    assert rows.shape == (2, 3, 4, 12)
    assert (rows[1, :, :, 4:8] - found[1, 1]).abs().max() == 0


def test_strips_there_and_back_end_where_they_began() -> None:
    flow = picture_flow(PixelGaussian(0.0, 0.25), 4).double()
    images = torch.rand(2, 3, 4, 4, generator=generator(2), dtype=torch.float64)
    found = strips(flow, images, [0, 0.5, 1.0], steps=200, back=True)
    assert len(found) == 5
    assert (found[:3] - strips(flow, images, [0, 0.5, 1.0], steps=200)).abs().max() == 0
    assert (found[3] - found[1]).abs().max() < 1e-4
    assert 0 < (found[4] - found[0]).abs().max() < 1e-4  # walked, not copied


def test_mistakes_are_one_line() -> None:
    flow, images = picture_flow(nn.Identity(), 4), torch.rand(1, 3, 4, 4)
    for make in (
        lambda: round_trip(flow, images, [0.0], [5]),
        lambda: round_trip(flow, images, [1.5], [5]),
        lambda: round_trip(flow, images, [0.5], [0]),
        lambda: strips(flow, images, [0.5, 0.2]),
        lambda: straightness(flow, images, solver="best"),
    ):
        with pytest.raises(UserError) as mistake:
            make()
        assert "\n" not in str(mistake.value)
