"""torchcfm: the path, the pairing and the training step of its CIFAR-10 example."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from flows import BESIDES, gradient_difference, our_steps, pictures, states, their_steps
from operators import declare_torchvision
from pairs import Work, largest, main
from torch import Tensor

from bothways.representation.couplings.ot import ot
from bothways.representation.paths import interpolate
from bothways.representation.paths.linear import linear

PEER = "torchcfm"


def works(small: bool) -> Iterator[Work]:
    declare_torchvision()
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher
    from torchcfm.optimal_transport import OTPlanSampler

    batch = 8 if small else 128
    plain, sampler = ConditionalFlowMatcher(sigma=0.0), OTPlanSampler("exact")
    x, noise, t = states(batch)
    yield Work(
        f"a point of the path and its velocity, {batch} pictures of 32 px", PEER,
        lambda: plain.sample_location_and_conditional_flow(noise, x, t)[1:], lambda: interpolate(linear, x, noise, t),
        "x_t and its velocity", largest, 1e-6,
    )  # fmt: skip
    for count in (8,) if small else (128, 512):
        x, noise, _ = states(count)
        yield Work(
            f"pairing by optimal transport, {count} pictures of 32 px", PEER,
            lambda x=x, noise=noise: sampler.sample_plan(noise, x), lambda x=x, noise=noise: (noise[ot(x, noise)], x),
            "the cost of the plan, relative",
            lambda _, ours, x=x, noise=noise: abs(cost(*ours) / planned(sampler, noise, x) - 1), 1e-5,
            lambda theirs, ours: f"of its pairs {unused(theirs[1]):.0%} of the pictures are left out, of ours "
            f"{unused(ours[1]):.0%}",
        )  # fmt: skip
    transport = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    data = pictures(4 * batch)
    for name, matcher, coupling in (("no pairing", plain, "independent"), ("optimal transport", transport, "ot")):
        theirs = their_steps(data, batch, matcher.sample_location_and_conditional_flow)
        ours = our_steps(data, batch, coupling)
        yield Work(
            f"a training step, {name}, {batch} pictures of 32 px", PEER, theirs.__next__, ours.__next__,
            "the gradient at the same pairs, relative",
            lambda *_: gradient_difference(
                lambda *given: plain.sample_location_and_conditional_flow(*given)[1:], batch
            ), 1e-5, lambda *_: BESIDES,
        )  # fmt: skip


def cost(noise: Tensor, x: Tensor) -> float:
    """The mean squared distance of pairs."""
    return float((noise.double() - x.double()).flatten(1).square().sum(1).mean())


def planned(sampler, noise: Tensor, x: Tensor) -> float:
    """The cost of the peer's plan, from which its pairs are drawn."""
    plan = torch.from_numpy(sampler.get_map(noise, x))
    return float((plan * torch.cdist(noise.flatten(1).double(), x.flatten(1).double()).square()).sum())


def unused(x: Tensor) -> float:
    """The share of a batch that was drawn for no pair."""
    return 1 - len(x.flatten(1).unique(dim=0)) / len(x)


if __name__ == "__main__":
    main(works)
