"""Velocity networks that work in place: as those that do not, bit for bit, and what the caller gave stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, load_flow
from bothways.numerics.draws import generator
from bothways.numerics.solvers import fixed_names, grid, solver_of, solver_states
from bothways.representation.activations import activations
from bothways.representation.diagnostics import jacobian_gain, round_trip, straightness
from bothways.representation.encode import Walk, decode, encode, trajectory
from bothways.representation.information import mutual_information_indicator
from bothways.representation.likelihood import Integration, log_density

SPEC = ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear")


class Leaky(nn.Module):
    """Its first layer writes over x where ``inplace``."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.first, self.last = nn.LeakyReLU(0.2, inplace=inplace), nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            self.last.weight.copy_(0.3 * torch.randn(3, 3, 3, 3, generator=generator(1)))
            self.last.bias.zero_()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.last(self.first(x)) * (1 + time)[:, None, None, None]


class Scaled(Leaky):
    """It multiplies x and the time in place."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if self.first.inplace:
            x *= 0.7
            time += 1
        else:
            x, time = x * 0.7, time + 1
        return self.last(x) * time[:, None, None, None]


class Buffered(Leaky):
    """It answers with one buffer, whatever it was called for, where no gradient is needed."""

    def __init__(self, inplace: bool) -> None:
        super().__init__(inplace)
        self.requires_grad_(False)
        self.register_buffer("answer", torch.zeros(2, 3, 4, 4), persistent=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        found = self.last(x) * (1 + time)[:, None, None, None]
        if self.first.inplace and not found.requires_grad and found.shape == self.answer.shape:
            return self.answer.copy_(found)
        return found


KINDS = (Leaky, Scaled, Buffered)


def x0() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=generator(2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", fixed_names())
@pytest.mark.parametrize("gradient", ["exact", "direct"])
def test_a_walk_is_that_of_the_network_that_copies(kind: type[Leaky], solver: str, gradient: str) -> None:
    def of(inplace: bool, given: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        v = kind(inplace)
        there = encode(v, given, 0.8, 7, solver, gradient)
        back = decode(v, there, 0.8, 7, solver, gradient)
        trained = [p for p in v.parameters() if p.requires_grad]
        return there, back, list(torch.autograd.grad(back.square().sum(), trained)) if trained else []

    given = x0()
    found, wanted = of(True, given), of(False, x0())
    assert torch.equal(given, x0())
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert all(torch.equal(a, b) for a, b in zip(found[2], wanted[2], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_solver_of_ones_own_and_its_steps_alone_are_safe_too(kind: type[Leaky]) -> None:
    for name in fixed_names():
        solver, times = solver_of(name), grid(1.0, 0.2, 3)
        ends = []
        for inplace in (True, False):
            v = kind(inplace).requires_grad_(False)
            *_, last = solver_states(v, solver.start(v, x0(), 1.0), times, solver)
            ends.append(last[0])
        assert torch.equal(*ends), name


def gain(v: nn.Module, x: Tensor) -> object:
    return jacobian_gain(v, x, [0, 1], [0.5], steps=4)


def density(v: nn.Module, x: Tensor) -> object:
    found = log_density(v, x, [0, 1], Integration(steps=4))
    return found.log_p.tolist(), found.noise.tolist()


def information(v: nn.Module, x: Tensor) -> object:
    return mutual_information_indicator(v, load_flow(v, SPEC).path, x, [0, 1], points=4)


def straight(v: nn.Module, x: Tensor) -> object:
    return straightness(v, x, steps=4).as_facts()


def moments(v: nn.Module, x: Tensor) -> object:
    return [(t, state.tolist()) for t, state in trajectory(v, x, 1.0, 0.0, Walk(steps=4, solver="heun"))]


def thought(v: nn.Module, x: Tensor) -> object:
    return activations(v, x, 0.3, ["last"])["last"].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measure", [gain, density, information, straight, moments, thought])
def test_every_measure_is_that_of_the_network_that_copies(
    kind: type[Leaky], measure: Callable[[nn.Module, Tensor], object]
) -> None:
    given = x0()
    assert measure(kind(True), given) == measure(kind(False), x0())
    assert torch.equal(given, x0())


@pytest.mark.parametrize("kind", KINDS)
def test_so_is_a_flow_and_what_is_drawn_of_it(kind: type[Leaky]) -> None:
    flows = [load_flow(kind(inplace), SPEC) for inplace in (True, False)]
    given, t = x0(), torch.tensor([0.2, 0.9])
    velocities = [flow(given, t) for flow in flows]
    assert torch.equal(*velocities)
    assert torch.equal(given, x0())
    assert t.tolist() == [pytest.approx(0.2), pytest.approx(0.9)]
    drawn = [bothways.sample(flow, n=2, steps=4, seed=3).images for flow in flows]
    assert torch.equal(*drawn)
    images = torch.rand(2, 3, 4, 4, generator=generator(5))
    kept = images.clone()
    trips = [round_trip(flow, images, [0.5], [4])[0] for flow in flows]
    assert trips[0] == trips[1]
    assert torch.equal(images, kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["dopri5", "adaptive_heun"])
def test_so_is_a_solver_that_chooses_its_steps(kind: type[Leaky], solver: str) -> None:
    pytest.importorskip("torchdiffeq")
    ends, given = [], x0()
    for inplace in (True, False):
        with torch.no_grad():
            ends.append(encode(kind(inplace), given, 0.5, 1, solver, rtol=1e-2, atol=1e-2))
    assert torch.equal(*ends)
    assert torch.equal(given, x0())
