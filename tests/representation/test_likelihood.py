"""log p against closed forms, bits against sums over all that could have been rounded, and draws that stay put."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from bothways.models.nets.unet import UNet
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, generator
from bothways.representation.encode import encode
from bothways.representation.information import conditional_log_likelihood
from bothways.representation.likelihood import (
    Integration,
    bits_per_dim,
    dequantised,
    image_time,
    log_density,
    with_divergence,
)
from bothways.representation.paths.vp import LEAST_DEPTH
from bothways.types import ModelSpec, UserError
from closed_flows import MixtureFlow, PixelGaussian, gaussian, picture_flow

FINE = Integration(steps=200)
TURNED = [[1.5, 0.6], [0.6, 0.5]]


def mixture(path: str = "linear") -> MixtureFlow:
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]])
    covariances = torch.tensor([[[0.4, 0.1], [0.1, 0.3]], [[0.5, -0.2], [-0.2, 0.4]], [[0.3, 0.0], [0.0, 0.6]]])
    return MixtureFlow(means, covariances, (0.5, 0.3, 0.2), path)


def drawn(flow: MixtureFlow, count: int = 20) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.random.manual_seed(5)
        return flow.source().sample((count,))


def drifted(network: nn.Module) -> nn.Module:
    """A network whose zeroed layers are not, so that it moves something; drawn from one generator."""
    source = generator(7)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=source) * 0.1
    return network.eval()


@pytest.mark.parametrize("path", ["linear", "gvp"])
@pytest.mark.parametrize("make", [lambda path: gaussian([0.7, -0.4], TURNED, path), mixture])
def test_the_log_density_is_that_of_the_source(make, path) -> None:
    flow = make(path)
    x = drawn(flow)
    found = log_density(flow, x, range(20), FINE)
    assert (found.log_p - flow.source().log_prob(x)).abs().max() < 1e-4
    assert found.calls == 400


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4", "reversible-heun"])
def test_the_divergence_is_taken_where_the_solver_looks(solver) -> None:
    """The error falls with the solver's own order: a divergence at other stages than the velocity's would be first."""
    flow, order = mixture(), {"euler": 1, "rk4": 4}.get(solver, 2)
    x, errors = drawn(flow), []
    for steps in (20, 40):
        found = log_density(flow, x, range(20), Integration(solver, steps)).log_p
        errors.append((found - flow.source().log_prob(x)).abs().mean().item())
    assert errors[0] / errors[1] > 0.75 * 2**order


def test_an_adaptive_solver_agrees() -> None:
    pytest.importorskip("torchdiffeq")
    flow = mixture()
    x = drawn(flow)
    found = log_density(flow, x, range(20), Integration("dopri5", tolerance=1e-8))
    assert (found.log_p - flow.source().log_prob(x)).abs().max() < 1e-5
    assert found.calls > 10


def test_a_missing_torchdiffeq_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(UserError, match=r'pip install "bothways\[ode\]"'):
        log_density(mixture(), drawn(mixture()), range(20), Integration("dopri5"))


def test_the_noise_is_where_the_state_came_from() -> None:
    flow = gaussian([0.7, -0.4], [[4.0, 0.0], [0.0, 0.25]])
    x = drawn(flow)
    expected = (x - torch.tensor([0.7, -0.4])) / torch.tensor([2.0, 0.5])  # a diagonal flow keeps each value's quantile
    assert (log_density(flow, x, range(20), FINE).noise - expected).abs().max() < 1e-4


def test_the_variance_preserving_path_stops_short_of_the_image() -> None:
    flow = gaussian([0.0, 0.0], TURNED, "vp")
    assert image_time(flow) == 1.0  # a bare field has no path to ask for
    flow.spec = ModelSpec(size=1, mean=(0, 0, 0), std=(1, 1, 1), classes=0, path="vp")
    assert image_time(flow) == 1 - LEAST_DEPTH
    x = drawn(flow)
    found = log_density(flow, x, range(20), Integration("rk4", 50)).log_p
    assert (found - flow.source(LEAST_DEPTH).log_prob(x)).abs().max() < 1e-3


# ---- the divergence ------------------------------------------------------------------------------------------------


def test_the_exact_trace_is_that_of_the_jacobian_of_a_unet() -> None:
    network = drifted(UNet(channels=1, width=32, multiples=(1, 2), blocks=1, attention=(2,))).double()
    x = torch.randn(2, 1, 4, 4, generator=generator(1), dtype=torch.float64)
    basis = torch.eye(16, dtype=torch.float64).view(16, 1, 1, 4, 4).expand(-1, 2, 1, 4, 4)
    velocity, found = with_divergence(network, x, torch.tensor([0.3, 0.6]).double(), basis)
    for picture, t in enumerate((0.3, 0.6)):
        moment = torch.tensor([t]).double()
        jacobian = torch.autograd.functional.jacobian(lambda y, at=moment: network(y, at), x[picture : picture + 1])
        assert (found[picture] - jacobian.reshape(16, 16).trace()).abs() < 1e-10
    assert not velocity.requires_grad
    assert not found.requires_grad


class AtOnce(torch.autograd.Function):
    """The identity with a backward pass that looks at the layout, as some kernels do; vmap refuses that."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient if gradient.is_contiguous(memory_format=torch.channels_last) else gradient.clone()


class Looking(nn.Module):
    """A network with such a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(AtOnce.apply(self.mix(x))) * t[:, None, None, None]


def test_layers_that_pull_one_direction_at_a_time_give_the_same_trace() -> None:
    network = drifted(Looking()).double()
    x = torch.randn(2, 4, 2, 2, generator=generator(1), dtype=torch.float64)
    basis = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 2, 2).expand(-1, 2, 4, 2, 2)
    t = torch.tensor([0.3, 0.6]).double()
    y = x.clone().requires_grad_()
    v = network(y, t)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.autograd.grad(v, y, basis, is_grads_batched=True)
    for _ in range(2):  # tried together once, then not again
        _, found = with_divergence(network, x, t, basis)
        for picture in range(2):
            moment = t[picture : picture + 1]
            jacobian = torch.autograd.functional.jacobian(lambda y, at=moment: network(y, at), x[picture : picture + 1])
            assert (found[picture] - jacobian.reshape(16, 16).trace()).abs() < 1e-10


def test_a_field_without_slope_has_no_divergence() -> None:
    x = torch.randn(3, 1, 2, 2, generator=generator(1))
    found = log_density(lambda x, t: torch.ones_like(x), x, range(3)).log_p
    expected = -((x.double() - 1).square().sum((1, 2, 3)) + 4 * math.log(2 * math.pi)) / 2
    assert (found - expected).abs().max() < 1e-4
    alone = log_density(lambda x, t: t.view(-1, 1, 1, 1) * nn.Parameter(torch.ones(4)).view(1, 1, 2, 2), x, range(3))
    assert torch.isfinite(alone.log_p).all()  # has a gradient, but not in x


def test_fresh_signs_vary_far_less_than_one_gaussian_probe_that_is_kept() -> None:
    """The same small network, 120 seeds: the spread of log p about the exact one."""
    network = drifted(UNet(channels=1, width=8, multiples=(1,), blocks=1, attention=(), heads=1))
    size, steps, seeds = (1, 4, 4), 12, range(120)
    x = torch.randn(1, *size, generator=generator(3)).expand(120, *size)
    exact = log_density(network, x[:1], [0], Integration(steps=steps)).log_p
    fresh = log_density(network, x, seeds, Integration(steps=steps, divergence="hutchinson")).log_p

    kept = Draws(seeds).normal(size, purpose="kept")
    state, change = x, torch.zeros(120)
    for step in range(steps):  # the rival, written out: midpoint with one Gaussian probe for the whole walk
        h, t = -1 / steps, torch.full((120,), 1 - step / steps)
        half = state + h / 2 * with_divergence(network, state, t, kept[None])[0]
        velocity, divergence = with_divergence(network, half, t + h / 2, kept[None])
        state, change = state + h * velocity, change + h * divergence
    rival = change.double() - (state.double().square().flatten(1).sum(1) + 16 * math.log(2 * math.pi)) / 2

    assert (fresh.mean() - exact).abs() < 5 * fresh.std() / math.sqrt(120)  # without bias
    assert rival.var() / fresh.var() > 10  # grows with the steps


def test_probes_belong_to_the_picture_and_more_of_them_help() -> None:
    network = drifted(UNet(channels=1, width=8, multiples=(1,), blocks=1, attention=(), heads=1)).double()
    x = torch.randn(20, 1, 4, 4, generator=generator(3), dtype=torch.float64)
    how = Integration(steps=4, divergence="hutchinson", probes=2)
    whole = log_density(network, x, range(20), how).log_p
    alone = log_density(network, x[17:18], [17], how).log_p
    assert (whole[17] - alone[0]).abs() < 1e-10
    assert (whole - log_density(network, x, range(1, 21), how).log_p).abs().min() > 0

    exact = log_density(network, x, range(20), Integration(steps=4)).log_p
    many = log_density(network, x, range(20), Integration(steps=4, divergence="hutchinson", probes=32)).log_p
    assert (whole - exact).var() / (many - exact).var() > 5


def test_an_adaptive_solver_keeps_its_probe() -> None:
    pytest.importorskip("torchdiffeq")
    network = drifted(UNet(channels=1, width=8, multiples=(1,), blocks=1, attention=(), heads=1)).double()
    x = torch.randn(2, 1, 4, 4, generator=generator(3), dtype=torch.float64)
    loose, tight = (
        log_density(network, x, range(2), Integration("dopri5", divergence="hutchinson", tolerance=tolerance)).log_p
        for tolerance in (1e-5, 1e-9)
    )
    assert (loose - tight).abs().max() < 1e-3


# ---- bits ----------------------------------------------------------------------------------------------------------


def test_pictures_of_known_chances_cost_their_cross_entropy() -> None:
    """Values uniform over 8 levels cost 3 bits under the uniform density, and more under the flow's Gaussian."""
    flow = picture_flow(PixelGaussian(0.0, 1.0), 4, levels=8).double()
    k = torch.randint(0, 8, (60, 3, 4, 4), generator=generator(2))
    found = bits_per_dim(flow, k.double() / 7, draws=4, how=Integration(steps=50))
    edges = np.arange(9) / 8
    expected = []
    for mean, std in zip(flow.spec.mean, flow.spec.std, strict=True):
        # E_u -log2 of the mean density of a level, by the Gaussian's own second moment on each eighth
        square = np.diff((edges - mean) ** 3) / 3 * 8 / std**2
        expected.append((square / 2 + math.log(std * math.sqrt(2 * math.pi))) / math.log(2) + 3)
    truth = np.mean([[row[k[n, c]].mean() for c, row in enumerate(expected)] for n in range(60)])
    assert abs(found.mean.value - truth) < 0.01
    chances = [np.diff(norm.cdf(edges, mean, std)) for mean, std in zip(flow.spec.mean, flow.spec.std, strict=True)]
    least = np.mean([[-np.log2(row[k[n, c]]).mean() for c, row in enumerate(chances)] for n in range(60)])
    assert found.mean.value > least > 3  # an upper bound on the bits of what was rounded
    assert found.mean.low < found.mean.value < found.mean.high
    assert (found.dims, found.calls, len(found.bits)) == (48, 100, 60)


def test_the_normalisation_is_counted() -> None:
    """A flow that sees the pictures in other units gives the same bits, when it models the same density."""
    plain = picture_flow(PixelGaussian(0.0, 1.0), 4).double()
    mean = [m - 1.5 * std for m, std in zip(plain.spec.mean, plain.spec.std, strict=True)]  # code' = 2 code + 3
    spec = replace(plain.spec, mean=mean, std=[std / 2 for std in plain.spec.std])
    other = Flow(PixelGaussian(3.0, 4.0), spec).double()
    images = torch.randint(0, 256, (5, 3, 4, 4), generator=generator(2)).double() / 255
    how = Integration(steps=200)
    assert (bits_per_dim(plain, images, how=how).bits - bits_per_dim(other, images, how=how).bits).abs().max() < 1e-3


def test_a_grey_picture_is_one_channel() -> None:
    flow = picture_flow(PixelGaussian(0.0, 1.0), 4, grey=True, levels=17).double()
    k = torch.randint(0, 17, (40, 1, 4, 4), generator=generator(2))
    images = (k.double() / 16).expand(-1, 3, -1, -1)
    y = dequantised(images, range(40), flow.spec)
    assert (y[:, 0] - y[:, 1]).abs().max() == 0
    assert ((y[:, :1] * 17).floor() - k).abs().max() == 0
    found = bits_per_dim(flow, images, how=Integration(steps=50))
    assert found.dims == 16
    # torch's own Gaussian at the code of the same y, and the slope of the code by autograd
    point = torch.zeros(1, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    flow.code(point).sum().backward()
    slope = point.grad.sum().item()
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(flow.code(y)).sum((1, 2, 3)) + 16 * math.log(slope)
    expected = -log_p / (16 * math.log(2)) + math.log2(17)
    assert (found.bits - expected).abs().max() < 1e-3


def test_a_picture_has_its_bits_in_any_batch() -> None:
    network = drifted(UNet(channels=3, width=8, multiples=(1,), blocks=1, attention=(), heads=1))
    flow = picture_flow(network, 12)
    images = torch.randint(0, 256, (7, 3, 12, 12), generator=generator(2)).float() / 255
    how = Integration(steps=3)
    whole = bits_per_dim(flow, images, range(10, 17), how, draws=2)
    parts = bits_per_dim(flow, images, range(10, 17), how, draws=2, batch=3)
    alone = bits_per_dim(flow, images[4:5], [14], how, draws=2)
    assert (whole.bits - parts.bits).abs().max() < 1e-5
    assert (whole.bits[4] - alone.bits[0]).abs() < 1e-5
    facts = whole.as_facts()
    assert facts["divergence"] == "hutchinson, 1 probe"
    assert facts["n"] == len(facts["bits"]) == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda: Integration("eular"),
        lambda: Integration(divergence="some"),
        lambda: Integration(probes=0),
        lambda: Integration(steps=0),
        lambda: Integration(tolerance=0.0),
        lambda: bits_per_dim(picture_flow(nn.Identity(), 4), torch.rand(2, 1, 4, 4)),
        lambda: bits_per_dim(picture_flow(nn.Identity(), 4), torch.rand(2, 3, 4, 4), [1]),
        lambda: bits_per_dim(picture_flow(nn.Identity(), 4), torch.rand(2, 3, 4, 4), draws=0),
    ],
)
def test_mistakes_are_one_line(make) -> None:
    with pytest.raises(UserError) as mistake:
        make()
    assert "\n" not in str(mistake.value)


# ---- log p(x_0 | x_1), PRG's indicator -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["linear", "gvp"])
def test_the_conditional_of_a_gaussian_flow_is_its_closed_form(path) -> None:
    """Its walk is z = S^(-1/2) (x - m) on either path, so that log |det dz/dx| = -1/2 log det S for every x."""
    flow = gaussian([0.7, -0.4], TURNED, path)
    found = conditional_log_likelihood(flow, drawn(flow), range(20), FINE, batch=7)
    wanted = -torch.linalg.slogdet(flow.covariances[0]).logabsdet / 2 / 2  # a number of the two, by dimension
    assert found.shape == (20,)
    assert (found - wanted).abs().max() < 1e-4
    narrow = gaussian(
        [0.0, 0.0], [[0.04, 0.0], [0.0, 0.04]], path
    )  # data on less room: a larger density, the indicator rises
    assert abs(conditional_log_likelihood(narrow, drawn(narrow), range(20), FINE).mean() - math.log(5)) < 1e-3


def test_the_conditional_is_the_log_determinant_of_the_walk() -> None:
    """Of autograd's Jacobian of the walk itself, and the ratio of the densities of picture and noise."""
    flow = mixture()
    x, fine = drawn(flow, 3), Integration("rk4", 60)
    found = conditional_log_likelihood(flow, x, range(3), fine)

    def walk(one: torch.Tensor) -> torch.Tensor:
        return encode(flow, one[None], depth=1.0, steps=60, solver="rk4", gradient="direct")[0]

    dets = torch.stack([torch.linalg.slogdet(torch.autograd.functional.jacobian(walk, one)).logabsdet for one in x])
    assert (found - dets / 2).abs().max() < 1e-6
    density = log_density(flow, x, range(3), fine)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(density.noise).sum(1)
    assert (found - (flow.source().log_prob(x) - normal) / 2).abs().max() < 1e-6


def test_bits_carry_the_conditional_of_the_same_pictures() -> None:
    flow = picture_flow(PixelGaussian(0.2, 0.3), 4)
    found = bits_per_dim(
        flow, torch.rand(3, 3, 4, 4, generator=generator(2)), how=replace(FINE, divergence="exact"), draws=2
    )
    assert (found.log_det / found.dims + math.log(0.3) / 2).abs().max() < 1e-3
    given = found.as_facts()["given_noise"]
    assert abs(given["nats_per_dim"] - (found.log_det / found.dims).mean().item()) < 1e-12
    assert given["low"] <= given["nats_per_dim"] <= given["high"]
