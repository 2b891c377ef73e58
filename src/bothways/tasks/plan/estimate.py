"""What a training costs: operations, memory by part, disk.

    operations of a step   those of a forward and a backward pass, with what is computed again in it; with the exact
                           gradient of a walk of N steps, and F of one step forward, (N - keep) F more than
                           backpropagation through all steps
    memory of a step       the most that its tensors take at one time; with the exact gradient that of a walk of
                           ``keep`` steps, the N - keep states before them, and one more set of gradients

A batch in A parts (--accumulate) takes the activations of one part, and from the second on the gradients of those
before. A walk of one and of two steps is counted, since everything is linear in the steps. Optimiser, average and
clipping make no products, so they have no operations here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from bothways.numerics.footprint import Precision, Tally, tally
from bothways.representation.classifier import blocks_of
from bothways.representation.tuning.parts import kept_size
from bothways.tasks.plan.shares import Held, held
from bothways.tasks.plan.subject import META, Subject

FLOAT = 4  # bytes
FRAME = 150  # bytes of a line of frames.jsonl


@dataclass(frozen=True)
class Cost:
    """A step of a training on one device. Operations, and bytes by part.

    activations: kept for the gradient. rest: gradients and what is alive beside them at the peak of a step. copy,
    gathered: with shares of the weights, see ``shares.py``.
    """

    operations: float
    weights: float
    average: float
    optimizer: float
    copy: float
    gathered: float
    states: float
    activations: float
    rest: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        kept = self.weights + self.average + self.optimizer + self.copy + self.gathered
        return kept + self.states + self.activations + self.rest


@dataclass(frozen=True)
class Counted:
    """What one network of a training is, on each device.

    parameters: as they are kept, without adapters. forward: operations of one network call for one picture. direct: by
    backpropagation through all steps, where that is another. saved_weights: bytes of a file.
    """

    parameters: int
    trained: int
    forward: float
    cost: Cost
    direct: Cost | None
    held: Held
    saved_weights: float


def counted(subject: Subject, *, devices: int = 1, gpu: bool = False, sharded: bool = False) -> Counted:
    """Count a training on so many devices, each with its share of a batch.

    gpu: what torch does on one. sharded: whether they hold shares of the weights, by FSDP.
    """
    fit, network = subject.config.fit, subject.network()
    each = -(-fit.batch // (devices * fit.accumulate))
    kept = held(network, fit, devices, sharded and devices > 1)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    parameters = sum(p.numel() for p in network.parameters())
    forward = _forward(network, subject)
    before = fit.accumulate > 1 and not kept.sharded  # of FSDP every part begins with gradients of its own
    steps, step = subject.steps, partial(_step, subject, each, gpu, before=before)
    tallies = (step(1), step(2)) if steps else (step(),) * 2
    # the steps that are kept follow others, so that a graph of all of them reaches the picture
    first = step(1, entered=True) if subject.recomputed and subject.tuned != "all" else tallies[0]

    def cost(again: int, first: Tally) -> Cost:
        """Of a walk ``again`` steps of which are made again. first: the first of the others."""
        one, two = tallies
        states = float(again * subject.state * FLOAT * each) if again else 0.0
        saved = first.saved + (two.saved - one.saved) * (steps - again - 1)
        peak = first.peak + (two.peak - one.peak) * (steps - again - 1) + (kept.gradients if again else 0.0)
        passes = one.operations + (two.operations - one.operations) * (steps - 1)
        operations = fit.accumulate * (passes + again * (subject.calls if again else 0) * forward * each)
        rest = max(0.0, _most(kept, saved, peak, fit.accumulate, gpu) - saved - kept.gathered) + kept.buckets
        return Cost(
            operations, kept.weights, kept.average, kept.optimizer, kept.copy, kept.gathered, states, saved, rest
        )

    adapters = parameters - kept_size(network)
    weights = sum(value.nbytes for value in network.state_dict().values()) - FLOAT * adapters
    return Counted(
        parameters - adapters, trained, forward, cost(subject.recomputed, first),
        cost(0, tallies[0]) if subject.recomputed else None, kept, weights / (2 if getattr(fit, "half", False) else 1),
    )  # fmt: skip


def _most(kept: Held, saved: float, peak: float, parts: int, gpu: bool) -> float:
    """The most bytes of a step at one time, beside what is held between steps and DDP's second set of gradients.

    saved, peak: of the passes of one part of a batch, by themselves.
    """
    whole, own = kept.gradients, kept.share_of_gradients
    earlier = (own if kept.sharded else whole) if parts > 1 else 0.0
    # a GPU's optimisers keep a list of temporaries, one for each parameter
    update = (own if kept.sharded else whole) * (2 if gpu else 1)
    forward = 2 * kept.gathered + saved + earlier
    return max(forward, kept.gathered + peak + earlier, kept.summed + earlier, update)


def _step(
    subject: Subject, pictures: int, gpu: bool, steps: int | None = None, *, before: bool = False, entered: bool = False
) -> Tally:
    """A forward and a backward pass on so many pictures. before: with gradients of earlier ones, which are not counted.

    entered: as if steps of the walk, which are made again, were before.
    """
    network, batch = subject.network(steps=steps), subject.example(pictures)
    precision = partial(Precision, bf16=subject.config.fit.bf16, gpu=gpu)
    for block in _made_again(network):  # in the precision of the first time, as within autocast
        block.forward = partial(block.forward, context_fn=partial(_contexts, precision))
    batch[0].requires_grad_(entered)

    def work() -> None:
        with precision():
            value, _ = subject.loss(network, batch)
        value.backward()

    if before:
        tally(work)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return tally(work, [*network.parameters(), *network.buffers(), *batch, *gradients])


def _made_again(network: nn.Module) -> Iterator[Any]:
    """The blocks whose activations are computed again in the backward pass."""
    blocks = blocks_of(getattr(network, "flow", network))
    return (block for _, block in blocks if isinstance(vars(block).get("forward"), partial))


def _contexts(precision: Any) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The contexts of a block the first time, which has one already, and again."""
    return nullcontext(), precision()


@torch.no_grad()
def _forward(network: nn.Module, subject: Subject) -> float:
    """Operations of a network call for one picture."""
    velocity = getattr(network, "flow", network).eval()
    x, t = torch.zeros(1, *subject.pictures.shape, device=META), torch.zeros(1, device=META)
    return tally(lambda: velocity(x, t)).operations
