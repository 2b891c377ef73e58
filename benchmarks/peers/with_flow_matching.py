"""flow_matching: its paths, the training step of its image example, sampling and likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from flows import BESIDES, gradient_difference, our_steps, pictures, states, their_steps
from pairs import Work, largest, main
from torch import Tensor, nn

import bothways
from bothways.numerics.draws import generator
from bothways.representation.encode import Walk, walk
from bothways.representation.likelihood import Integration, log_density
from bothways.representation.paths import interpolate, path_of

PEER = "flow_matching"
FLAT = 64  # values of a state of which the exact trace is taken


def works(small: bool) -> Iterator[Work]:
    from flow_matching.path import AffineProbPath
    from flow_matching.path.scheduler import CondOTScheduler, CosineScheduler
    from flow_matching.solver import ODESolver

    batch = 8 if small else 128
    x, noise, t = states(batch)
    plain = AffineProbPath(CondOTScheduler())
    for name, path in (("linear", plain), ("gvp", AffineProbPath(CosineScheduler()))):
        yield Work(
            f"a point of the path {name} and its velocity, {batch} pictures of 32 px", PEER,
            lambda path=path: point(path, noise, x, t),
            lambda name=name: interpolate(path_of(name), x, noise, t), "x_t and its velocity", largest, 1e-5,
        )  # fmt: skip
    data = pictures(4 * batch)
    theirs = their_steps(data, batch, lambda noise, x: (at := torch.rand(len(x)), *point(plain, noise, x, at)))
    yield Work(
        f"a training step, no pairing, {batch} pictures of 32 px", PEER, theirs.__next__,
        our_steps(data, batch, "independent").__next__, "the gradient at the same pairs, relative",
        lambda *_: gradient_difference(lambda *given: point(plain, *given), batch), 1e-5,
        lambda *_: BESIDES,
    )  # fmt: skip
    flow = bothways.load_flow("bundled:cifar10-flow").eval()
    count, steps = (1, 2) if small else (2, 6)
    noise = states(count)[1]
    solver = ODESolver(lambda x, t: flow(x, t.expand(len(x))))
    yield Work(
        f"noise to pictures, midpoint, {steps} steps, {count} pictures of 32 px", PEER,
        lambda: solver.sample(noise, step_size=1 / steps, method="midpoint"),
        torch.no_grad()(lambda: walk(flow, noise, 0.0, 1.0, Walk(steps=steps, solver="midpoint"))),
        "the picture at the end", largest, 1e-3,
    )  # fmt: skip
    yield likelihood(ODESolver, flow, noise, steps, exact=False)
    states_of_64 = torch.randn(count, FLAT, generator=generator(1))
    yield likelihood(ODESolver, Small(), states_of_64, steps, exact=True)


def likelihood(kind, v, x: Tensor, steps: int, exact: bool) -> Work:
    """log p of states by midpoint steps.

    Of Hutchinson's estimate the two draw other signs: they are compared on a field whose Jacobian is diagonal, of which
    the estimate is the trace whatever the signs are.
    """

    def theirs(v=v) -> Tensor:
        solver = kind(lambda x, t: v(x, t.expand(len(x))))
        found = solver.compute_likelihood(
            x.clone(), log_normal, step_size=1 / steps, method="midpoint", exact_divergence=exact
        )
        return found[1].detach()

    def ours(v=v) -> Tensor:
        how = Integration("midpoint", steps, "exact" if exact else "hutchinson")
        return log_density(v, x, range(len(x)), how).log_p

    kind_of = f"exact, {len(x)} states of {FLAT} values" if exact else f"Hutchinson, {len(x)} pictures of 32 px"
    return Work(
        f"log-likelihood, {kind_of}, {steps} midpoint steps", PEER, theirs, ours,
        "log p in nats" + ("" if exact else ", of a field with a diagonal Jacobian") + ", relative",
        lambda a, b: largest(*((a, b) if exact else (theirs(diagonal), ours(diagonal)))) / float(a.abs().max()), 1e-4,
    )  # fmt: skip


def diagonal(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x) * (1 + t).view(-1, *[1] * (x.ndim - 1))


def log_normal(x: Tensor) -> Tensor:
    """log N(x; 0, 1), (B,)."""
    return -(x.flatten(1).square().sum(1) + x[0].numel() * math.log(2 * math.pi)) / 2


def point(path, noise: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    found = path.sample(x_0=noise, x_1=x, t=t)
    return found.x_t, found.dx_t


class Small(nn.Module):
    """A velocity of flat states, of two layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.random.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(FLAT + 1, 256), nn.SiLU(), nn.Linear(256, FLAT))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t[:, None]], 1))


if __name__ == "__main__":
    main(works)
