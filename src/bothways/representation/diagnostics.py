"""Diagnostics of a flow: straightness, round-trip error and Jacobian gain.

    straightness   S = int_0^1 E ||(x_1 - x_0) - v(x_t, t)||^2 dt, along the flow's own paths
                   Liu et al. 2022, arXiv 2209.03003, sec. 2.2
    round trip     decode(encode(image)) - image, in units of [0, 1]
    gain           sqrt(E ||J^T w||^2 / ||w||^2) = ||J||_F / sqrt(D),  J = d x_depth / d x_image, w random signs

J is square, so its rms gain over random directions equals that of its transpose, which one backward pass computes for
any network; forward mode lacks some operators. The gain is that of codes: 1 at the image itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bothways.numerics.draws import Draws
from bothways.numerics.intervals import Estimate, mean_interval
from bothways.numerics.modules import check_finite, untouched
from bothways.numerics.solvers import Solver, finite, grid, solver_of, solver_states
from bothways.registry import name_of
from bothways.representation.encode import image_time
from bothways.types import Flow, UserError, VectorField

BATCH = 64  # pictures per pass


def _steps(v: VectorField, x: Tensor, times: list[float], solver: Solver) -> Iterator[Tensor]:
    """x, then its value after each step."""
    yield x
    for state in finite(v, solver_states(v, solver.start(v, x, times[0]), times, solver), times):
        yield state[0]


def _end(v: VectorField, x: Tensor, times: list[float], solver: Solver) -> Tensor:
    *_, last = _steps(v, x, times, solver)
    return last


def _time_at(v: VectorField, depth: float) -> float:
    """Time t of a depth, clamped to ``image_time``. Raises UserError outside of (0, 1]."""
    if not 0 < depth <= 1:
        raise UserError(f"depth {depth} is not above 0 (the image) and at most 1 (noise); type one such as 0.25")
    return min(1 - depth, image_time(v))


# ---- straightness --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Straightness:
    """Straightness of N paths: squares (K+1,N), ||(x_1 - x_0) - v||^2 of ``dims`` values at K+1 ``times``, float64."""

    squares: Tensor
    times: list[float]
    dims: int
    solver: str

    @property
    def each(self) -> Tensor:
        """S of each path, (N,), by the trapezoidal rule."""
        return torch.trapezoid(self.squares, torch.tensor(self.times, dtype=torch.float64), dim=0)

    @property
    def total(self) -> Estimate:
        """Mean S with its 95 % interval over paths."""
        return mean_interval(self.each)

    def as_facts(self) -> dict[str, Any]:
        """The entry measures["flow"]["straightness"]; the profile is E||.||^2 / D at each time."""
        value, low, high = self.total
        facts = {"total": value, "low": low, "high": high, "per_dim": value / self.dims, "dims": self.dims}
        walk = {"n": self.squares.shape[1], "solver": self.solver, "steps": len(self.times) - 1}
        return {**facts, **walk, "times": self.times, "profile": (self.squares.mean(1) / self.dims).tolist()}


@torch.no_grad()
def straightness(
    v: VectorField, noise: Tensor, *, solver: str = "midpoint", steps: int = 50, batch: int = BATCH
) -> Straightness:
    """Straightness of the flow's paths from ``noise`` (N,...) (Liu et al. 2022); 0 for straight lines at even speed."""
    times, stepper = grid(0.0, image_time(v), steps), solver_of(solver)

    def squares(x: Tensor) -> Tensor:
        end, velocities = x, []
        for t, place in zip(times, _steps(v, x, times, stepper), strict=True):
            end = place
            velocities.append(untouched(v)(place, place.new_full((len(place),), t)))
        return torch.stack([(end - x - velocity).flatten(1).double().square().sum(1) for velocity in velocities])

    found = torch.cat([squares(part).cpu() for part in noise.split(batch)], 1)
    return Straightness(found, times, noise[0].numel(), solver)


# ---- the round trip ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoundTrip:
    """Round-trip error of ``n`` pictures walked to a depth and back: rms and largest difference, in [0, 1] units."""

    depth: float
    steps: int
    rms: float
    largest: float
    n: int
    solver: str

    def as_facts(self) -> dict[str, Any]:
        """An entry of measures["flow"]["round_trip"]."""
        return asdict(self)


@torch.no_grad()
def round_trip(
    flow: Flow,
    images: Tensor,
    depths: Sequence[float],
    steps: Sequence[int],
    *,
    solver: str | Solver = "euler",
    batch: int = BATCH,
) -> list[RoundTrip]:
    """Round-trip error of pictures (N,3,H,W) in [0,1] for every depth and number of steps each way.

    For a grey flow the reference is the grey picture. The way back is an independent walk.
    """
    stepper = solver_of(solver)

    def lost(depth: float, count: int) -> RoundTrip:
        times = grid(image_time(flow), _time_at(flow, depth), count)
        square, largest, values = 0.0, 0.0, 0
        for x in map(flow.code, images.split(batch)):
            back = _end(flow, _end(flow, x, times, stepper), times[::-1], stepper)
            difference = (flow.picture(back) - flow.picture(x)).double()
            square, values = square + difference.square().sum().item(), values + difference.numel()
            largest = max(largest, difference.abs().max().item())
        return RoundTrip(depth, count, math.sqrt(square / values), largest, len(images), name_of(solver))

    return [lost(depth, count) for depth in depths for count in steps]


# ---- the gain ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gain:
    """Rms Jacobian gain from the image to a depth over random directions and ``n`` pictures, with its 95 % interval."""

    depth: float
    gain: float
    low: float
    high: float
    n: int
    solver: str
    steps: int

    def as_facts(self) -> dict[str, Any]:
        """An entry of measures["flow"]["gain"]."""
        return asdict(self)


def jacobian_gain(
    v: VectorField,
    x: Tensor,
    seeds: Sequence[int],
    depths: Sequence[float],
    *,
    solver: str = "midpoint",
    steps: int = 20,
    probes: int = 1,
    batch: int = 16,
) -> list[Gain]:
    """Rms gain sqrt(E ||J^T w||^2 / ||w||^2) of the walk from codes x (N,...) to each depth, in ``steps`` steps.

    w: ``probes`` random sign vectors per picture, a function of its seed. Steps are checkpointed, so that only one
    step's activations are in memory. The result has no gradient.
    """
    stepper = solver_of(solver)

    def squares(x: Tensor, draws: Draws, times: list[float]) -> Tensor:
        x = x.detach().requires_grad_()
        state = stepper.start(v, x, times[0])
        for t, following in pairwise(times):
            state = checkpoint(stepper.step, v, state, t, following - t, use_reentrant=False, preserve_rng_state=False)
        total = x.new_zeros(len(x), dtype=torch.float64)
        for probe in range(probes):
            signs = 2 * draws.integers(0, 1, x.shape[1:], t=probe, purpose="gain").to(x) - 1
            (pulled,) = torch.autograd.grad(state[0], x, signs, retain_graph=probe < probes - 1)
            check_finite(pulled, f"the gain of a walk of {steps} steps: gradients", "look at the weights of the flow")
            total += pulled.flatten(1).double().square().mean(1) / probes
        return total.cpu()

    def at(depth: float) -> Gain:
        times = grid(image_time(v), _time_at(v, depth), steps)
        parts = zip(x.split(batch), range(0, len(x), batch), strict=True)
        found = torch.cat([squares(part, Draws(seeds[k : k + len(part)]), times) for part, k in parts])
        value, low, high = (math.copysign(abs(end) ** 0.5, end) for end in mean_interval(found))
        return Gain(depth, value, max(low, 0.0), high, len(x), solver, steps)

    return [at(depth) for depth in depths]


# ---- paths and strips ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """Trajectories to noise: states (K,N,...) of N samples at K ``depths``, the first the samples themselves."""

    states: Tensor
    depths: list[float]

    def as_facts(self, angles: Sequence[float]) -> dict[str, Any]:
        """The entry measures["flow"]["swiss_roll"] of two-dimensional states. angles: colour of each point."""
        places = self.states.flatten(2).transpose(0, 1).double().mul(1e4).round().div(1e4)
        return {
            "points": places[:, 0].tolist(),
            "paths": places.tolist(),
            "depths": self.depths,
            "angles": [round(float(angle), 4) for angle in angles],
        }


@torch.no_grad()
def paths(v: VectorField, x: Tensor, *, solver: str = "midpoint", steps: int = 50, kept: int = 26) -> Paths:
    """Trajectories of x (N,...) from the image to noise at ``kept`` of its times, both ends included."""
    times = grid(image_time(v), 0.0, steps)
    places = torch.linspace(0, steps, kept).round().int().unique().tolist()
    all_states = list(_steps(v, x, times, solver_of(solver)))
    return Paths(torch.stack([all_states[k].cpu() for k in places]), [1 - times[k] for k in places])


@torch.no_grad()
def strips(
    flow: Flow,
    images: Tensor,
    depths: Sequence[float],
    *,
    solver: str = "midpoint",
    steps: int = 50,
    back: bool = False,
) -> Tensor:
    """Pictures (B,3,H,W) along the walk to noise at K rising depths, clamped: (K,B,3,H,W) in [0,1].

    depths: 0 is the picture itself. steps: of the whole walk. back: append the same depths of the walk back.
    Raises UserError for depths that do not rise.
    """
    if not depths or list(depths) != sorted(set(depths)) or depths[0] < 0 or depths[-1] > 1:
        raise UserError(f"depths {list(depths)} do not rise from 0 to 1; type some such as 0, 0.25, 0.5, 1")
    x, t, seen = flow.code(images), image_time(flow), []
    for depth in [*depths, *(reversed(depths[:-1]) if back else ())]:
        following = _time_at(flow, depth) if depth else image_time(flow)
        if following != t:
            count = max(1, round(steps * abs(t - following)))
            x, t = _end(flow, x, grid(t, following, count), solver_of(solver)), following
        seen.append(flow.picture(x).clamp(0, 1).cpu())
    return torch.stack(seen)


def side_by_side(strip: Tensor) -> Tensor:
    """Concatenate a strip along the width, (K,B,3,H,W) -> (B,3,H,K W), from the image on the left to noise."""
    return strip.movedim(0, 3).flatten(3, 4)
