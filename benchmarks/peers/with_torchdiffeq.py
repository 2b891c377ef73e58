"""torchdiffeq: the walk of the bundled flow by fixed and chosen steps, and the gradient of a walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from flows import states
from pairs import Work, largest, main, relative
from torch import Tensor

import bothways
from bothways.representation.encode import Walk, walk

PEER = "torchdiffeq"


def works(small: bool) -> Iterator[Work]:
    from torchdiffeq import odeint, odeint_adjoint

    flow = bothways.load_flow("bundled:cifar10-flow").eval()
    count, steps = (1, 3) if small else (2, 6)
    x = states(count)[1]
    even, ends = torch.linspace(0, 1, steps + 1), torch.tensor([0.0, 1.0])
    size = f"{count} pictures of 32 px"

    def field(t: Tensor, x: Tensor) -> Tensor:
        return flow(x, t.expand(len(x)))

    def ours(x: Tensor, **how) -> Tensor:
        return walk(flow, x, 0.0, 1.0, Walk(**how))

    of = "the picture at the end"
    for solver in ("euler", "midpoint"):
        yield Work(
            f"noise to pictures, {solver}, {steps} steps, {size}", PEER,
            ungraded(lambda solver=solver: odeint(field, x, even, method=solver)[-1]),
            ungraded(lambda solver=solver: ours(x, steps=steps, solver=solver)), of, largest, 1e-3,
        )  # fmt: skip
    tolerance = 1e-2 if small else 1e-3
    yield Work(
        f"noise to pictures, dopri5, tolerance {tolerance:g}, {size}", PEER,
        ungraded(lambda: odeint(field, x, ends, method="dopri5", rtol=tolerance, atol=tolerance)[-1]),
        ungraded(lambda: ours(x, solver="dopri5", rtol=tolerance, atol=tolerance)), of, largest, 1e-3,
    )  # fmt: skip
    leaves = [p.requires_grad_() for p in flow.parameters()]

    def gradient(end: Callable[[Tensor], Tensor]) -> Tensor:
        start = x.clone().requires_grad_()
        return torch.cat([g.flatten() for g in torch.autograd.grad(end(start).square().sum(), [start, *leaves])])

    def direct() -> Tensor:
        return gradient(lambda x: odeint(field, x, even, method="euler")[-1])

    def adjoint() -> Tensor:
        return gradient(lambda x: odeint_adjoint(field, x, even, method="euler", adjoint_params=tuple(leaves))[-1])

    def exact() -> Tensor:
        return gradient(lambda x: ours(x, steps=steps))

    of = f"the gradient, relative to backpropagation through {steps} steps"
    yield Work(
        f"gradient of {steps} Euler steps in flat memory (its adjoint, our exact walk), {size}", PEER, adjoint, exact,
        of, lambda _, found: relative(direct(), found), 1e-4,
        lambda theirs, _: f"its gradient is off by {relative(direct(), theirs):.1%}",
    )  # fmt: skip
    yield Work(
        f"gradient of {steps} Euler steps by backpropagation (memory grows with the steps), {size}", PEER, direct,
        lambda: gradient(lambda x: ours(x, steps=steps, gradient="direct")), of, relative, 1e-4,
    )  # fmt: skip


def ungraded(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same without autograd."""
    return torch.no_grad()(run)


if __name__ == "__main__":
    main(works)
