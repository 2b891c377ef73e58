"""Walking to noise and back, against closed forms and torchdiffeq; and which mistakes are told."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bothways import types
from bothways.models.velocity import Flow
from bothways.numerics.solvers import fixed_names
from bothways.progress import Ledger, listening
from bothways.representation.encode import Walk, decode, encode, trajectory, walk, walk_state
from bothways.representation.paths.vp import LEAST_DEPTH
from bothways.types import ModelSpec, RunError, UserError

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun")

MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
FACTOR = torch.tensor([[0.8, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.2, 0.4, 1.4]], dtype=torch.float64)
COVARIANCE = FACTOR @ FACTOR.T


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    """The mean velocity of the linear path between N(0, 1) and data N(m, C): affine in x.

    m + K (x - t m),   K = (t C - (1 - t)) (t^2 C + (1 - t)^2)^-1
    """
    one, t = torch.eye(3, dtype=x.dtype), float(t[0])
    mean, covariance = MEAN.to(x.dtype), COVARIANCE.to(x.dtype)
    gain = (t * covariance - (1 - t) * one) @ torch.linalg.inv(t * t * covariance + (1 - t) ** 2 * one)
    return mean + (x - t * mean) @ gain.T


def whitened(x: Tensor, t: float) -> Tensor:
    """Where the walk from x at t = 1 is at t: t m + (t^2 C + (1 - t)^2)^1/2 C^-1/2 (x - m), as all K commute."""
    values, axes = torch.linalg.eigh(COVARIANCE)
    spread = (t * t * values + (1 - t) ** 2).sqrt() / values.sqrt()
    return t * MEAN + (x - MEAN) @ (axes * spread) @ axes.T


class Small(nn.Module):
    """A velocity of pictures that bends, in float32."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        self.seen: list[tuple[int, torch.dtype]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen.append((len(x), x.dtype))
        return 4 * self.last(torch.tanh(3 * self.first(x) + t.to(x.dtype).view(-1, 1, 1, 1)))


def flow(**facts) -> Flow:
    facts = {"size": 8, "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.5), "classes": 0, "time_scale": 2.0} | facts
    return Flow(Small(1 if facts.get("channel_order") == "grey" else 3), ModelSpec(**facts)).requires_grad_(False)


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def points() -> Tensor:
    return MEAN + torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) @ FACTOR.T


def gap(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


# ---- a Gaussian in closed form -------------------------------------------------------------------------------------


def test_a_gaussian_is_whitened() -> None:
    x = points()
    for depth in (0.5, 1.0):
        tight = encode(gaussian, x, depth, solver="dopri8", rtol=1e-10, atol=1e-10)
        assert gap(tight, whitened(x, 1 - depth)) < 1e-6
        assert gap(encode(gaussian, x, depth, 100, "rk4"), whitened(x, 1 - depth)) < 1e-6
        coarse, fine = (gap(encode(gaussian, x, depth, steps), whitened(x, 1 - depth)) for steps in (50, 100))
        assert 1.7 < coarse / fine < 2.3  # Euler's order
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()), (x - x.mean(0)).T, upper=False).T
    noise = encode(gaussian, MEAN + white @ FACTOR.T, 1, 100, "rk4")  # of a sample whose moments are m and C exactly
    assert gap(noise.mean(0), torch.zeros(3)) < 1e-9
    assert gap(noise.T.cov(), torch.eye(3)) < 1e-5


@pytest.mark.parametrize("solver", [*fixed_names(), *ADAPTIVE])
def test_there_and_back(solver) -> None:
    x = points()
    there = encode(gaussian, x, 1.0, 200, solver, rtol=1e-5, atol=1e-5)
    back = decode(gaussian, there, 1.0, 200, solver, rtol=1e-5, atol=1e-5)
    assert gap(there, x) > 1
    near = {"euler": 0.2, "midpoint": 1e-3, "heun": 1e-3, "rk4": 1e-4, "reversible-heun": 1e-2}
    assert gap(back, x) < near.get(solver, 3e-3)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_reversible_heun_comes_back_exactly(dtype, rounding) -> None:
    v, x = Small().requires_grad_(False).to(dtype), images() - 0.5
    options = {"depth": 0.9, "steps": 10, "solver": "reversible-heun", "dtype": dtype}
    state = encode(v, x, full_state=True, **options)
    assert [part.dtype for part in state] == [dtype] * 3
    assert gap(state[0], encode(v, x, **options)) == 0
    assert gap(state[0], x) > 0.1
    back = decode(v, state, **options)
    assert back.dtype == dtype
    assert gap(back, x) < rounding
    assert gap(decode(v, state[0], **options), x) > 10 * rounding  # which the picture alone does not
    assert gap(decode(flow(), encode(flow(), images(), full_state=True, **options), **options), images()) < max(
        rounding, 1e-6
    )


# ---- flows and pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["RGB", "grey"])
def test_a_flow_is_walked_in_its_own_units(order) -> None:
    model, pictures = flow(channel_order=order), images()
    assert isinstance(model, types.Flow)
    there = encode(model, pictures, 0.4, 3)
    assert there.shape == (5, 1 if order == "grey" else 3, 8, 8)
    x, h = model.code(pictures), -0.4 / 3
    for k in range(3):
        x = x + h * model.network(x, torch.full((5,), 2.0 * (1 + h * k)))
    assert gap(there, x) < 1e-6
    assert gap(decode(model, x, 0.4, 3), model.picture(walk(model, x, 0.6, 1.0, Walk(3)))) == 0
    assert gap(encode(model, pictures, 0.0), model.code(pictures)) == 0
    assert gap(decode(model, encode(model, pictures, 0.0), 0.0), model.picture(model.code(pictures))) == 0


def test_the_path_vp_is_walked_from_beside_the_picture() -> None:
    times: list[float] = []
    model = flow(path="vp", time_scale=1.0)
    model.network.register_forward_pre_hook(lambda _module, given: times.append(float(given[1][0])))
    there = encode(model, images(), 0.5, 4)
    decode(model, there, 0.5, 4, "heun")
    assert max(times) == pytest.approx(1 - LEAST_DEPTH, abs=1e-7)
    assert times[0] == max(times)
    assert min(times) == 0.5
    assert next(t for t, _ in trajectory(model, there, 1.0, 0.5, Walk(2))) == 1 - LEAST_DEPTH
    assert gap(encode(model, images(), LEAST_DEPTH / 2), model.code(images())) == 0


def test_a_float64_state_and_a_float32_network() -> None:
    model = flow()
    for walker in (encode, partial(encode, solver="dopri5")):
        there = walker(model, images(), dtype=torch.float64)
        assert there.dtype == torch.float64
        assert gap(there, walker(model, images())) < 1e-4
    assert {kind for _, kind in model.network.seen} == {torch.float32}
    trained = Small()
    wide, narrow = (
        torch.autograd.grad(encode(trained, images(), dtype=kind).sum(), trained.first.weight)[0]
        for kind in (torch.float64, None)
    )
    assert gap(wide, narrow) < 1e-3 * float(narrow.abs().max())


def test_memory_is_bounded_by_parts() -> None:
    model = flow()
    whole = encode(model, images(), batch=5)
    model.network.seen.clear()
    assert gap(encode(model, images(), batch=2), whole) < 1e-6
    assert {count for count, _ in model.network.seen} == {2, 1}
    model.network.seen.clear()
    encode(model, images(130), steps=1)
    assert [count for count, _ in model.network.seen] == [64, 64, 2]
    model.network.seen.clear()
    encode(model, images().requires_grad_(), batch=2)
    assert {count for count, _ in model.network.seen} == {5}
    assert encode(model, images(0)).shape == (0, 3, 8, 8)


def test_a_trajectory_has_every_state_and_no_gradient() -> None:
    v, x = Small(), images()
    for solver in ("midpoint", "reversible-heun", "dopri5"):
        how = Walk(steps=4, solver=solver)
        moments = trajectory(v, x, 1.0, 0.2, how)
        t, first = next(moments)
        assert torch.is_grad_enabled()  # while it waits, the caller's gradients go on
        found = [(t, first), *moments]
        assert [t for t, _ in found] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
        assert gap(first, x) == 0
        assert not any(state.requires_grad for _, state in found)
        with torch.no_grad():
            assert gap(found[-1][1], walk(v, x, 1.0, 0.2, how)) < (1e-3 if solver == "dopri5" else 1e-7)


# ---- gradients -----------------------------------------------------------------------------------------------------


def gradient(kind: str, solver: str = "euler", v: nn.Module | None = None, **options) -> list[Tensor]:
    v = (v or Small()).double()
    x = (images().double() - 0.5).requires_grad_()
    end = encode(v, x, 0.8, 6, solver, kind, **options)
    return list(torch.autograd.grad(end.square().sum(), [x, *v.parameters()]))


def error(found: list[Tensor], wanted: list[Tensor]) -> float:
    difference, size = (
        torch.cat([g.flatten() for g in gs]) for gs in ([a - b for a, b in zip(found, wanted, strict=True)], wanted)
    )
    return float(difference.norm() / size.norm())


@pytest.mark.parametrize("solver", fixed_names())
def test_the_exact_gradient_is_direct_and_the_adjoint_is_not(solver) -> None:
    wanted = gradient("direct", solver)
    assert error(gradient("exact", solver), wanted) < 1e-12
    assert error(gradient("exact", solver, keep=3), wanted) < 1e-12
    if solver in ("euler", "midpoint", "heun"):
        assert 1e-4 < error(gradient("adjoint", solver), wanted) < 0.5


def test_the_adjoint_of_an_adaptive_solver_agrees_where_it_is_tight() -> None:
    tight = {"rtol": 1e-7, "atol": 1e-7}
    assert error(gradient("adjoint", "dopri5", **tight), gradient("direct", "dopri5", **tight)) < 1e-5


def test_the_adjoint_finds_what_a_callable_captures() -> None:
    net, gradients = Small().double(), []
    for v in (net, lambda x, t: net(x, t)):
        end = walk(v, images().double(), 1.0, 0.5, Walk(3, gradient="adjoint"))
        gradients.append(torch.autograd.grad(end.sum(), net.first.weight)[0])
    assert gap(*gradients) < 1e-12


def test_exact_and_adaptive_only_without_gradient() -> None:
    trained = Small()
    for v in (trained, lambda x, t: trained(x, t)):
        with pytest.raises(UserError, match=r'type gradient="direct"'):
            encode(v, images(), solver="dopri5")
        assert encode(v, images(), solver="dopri5", gradient="direct").requires_grad
        with torch.no_grad():
            encode(v, images(), solver="dopri5")
    frozen = flow()
    encode(frozen, images(), solver="bosh3")
    with pytest.raises(UserError, match="exact"):
        encode(frozen, images().requires_grad_(), solver="bosh3")


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"solver": "eulre"}, "type euler"),
        ({"gradient": "backprop"}, "type one of exact, direct, adjoint"),
        ({"gradient": "adjoint", "solver": "rk4"}, r"'rk4' has no gradient=\"adjoint\"; type gradient=\"exact\""),
        ({"depth": 1.2}, r"depth=1\.2; type a number from 0"),
        ({"depth": float("nan")}, "depth=nan"),
        ({"steps": 0}, "steps=0"),
        ({"keep": 0}, "keep=0"),
        ({"batch": 0}, "batch=0"),
        ({"rtol": 0.0}, "rtol=0"),
    ],
)
def test_mistakes_are_told_in_one_line(options, said) -> None:
    for call in (encode, decode):
        with pytest.raises(UserError, match=said) as found:
            call(flow(), images(), **options)
        assert "\n" not in str(found.value)


def test_pictures_and_states_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"give RGB pictures \(B,3,H,W\)"):
        encode(flow(), images()[:, :1])
    with pytest.raises(UserError, match="float in"):
        encode(flow(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    state = encode(flow(), images(), solver="reversible-heun", full_state=True)
    for solver in ("euler", "dopri5"):
        with pytest.raises(UserError, match=r'has 3 tensors.*type solver="reversible-heun"'):
            decode(flow(), state, solver=solver)
    assert len(walk_state(flow(), (images(),), 1.0, 0.5, Walk(2))) == 1


def test_a_walk_that_explodes_and_a_library_that_is_missing(monkeypatch) -> None:
    with pytest.raises(RunError, match="solver 'dopri5': ") as found:
        encode(lambda x, t: -1e4 * x.square() * x, 1e3 * torch.ones(2, 3), solver="dopri5")
    assert "\n" not in str(found.value)
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    for options in ({"solver": "dopri5"}, {"gradient": "adjoint"}):
        with pytest.raises(UserError, match=r'type pip install "bothways\[ode\]"'):
            encode(flow(), images(), **options)


def test_a_long_walk_is_counted_step_by_step() -> None:
    found: list[tuple[str, int, int]] = []

    class Heard(Ledger):
        def end(self, stage) -> None:
            found.append((stage.name, stage.done, stage.total))
            super().end(stage)

    images = torch.rand(3, 3, 8, 8)
    with listening(Heard()), torch.no_grad():
        encode(flow(), images, steps=100)
        assert found == []  # over in no time
        short = encode(flow(), images, steps=101, batch=2)
        direct = encode(flow(), images, steps=101, gradient="direct")
    assert found == 3 * [("steps of a walk", 101, 101)]  # two parts, and one
    assert float((short - direct).abs().max()) < 1e-5
