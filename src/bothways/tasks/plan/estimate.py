"""What a training costs: operations, memory by part, disk.

    operations of a step   those of a forward and a backward pass; with the exact gradient of a walk of N steps, and
                           F of one step forward, (N - keep) F more than backpropagation through all steps
    memory of a step       the most that its tensors take at one time; with the exact gradient that of a walk of
                           ``keep`` steps, the N - keep states before them, and one more set of gradients

A walk of one and of two steps is counted, since everything is linear in the steps. Optimiser, average and clipping make
no products, so they have no operations here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bothways.numerics.footprint import Precision, Tally, tally
from bothways.tasks.plan.subject import META, Subject
from bothways.training.fit import build_optimizers

FLOAT = 4  # bytes
FRAME = 150  # bytes of a line of frames.jsonl


@dataclass(frozen=True)
class Cost:
    """A step of a training on one device. Operations, and bytes by part.

    activations: kept for the gradient. rest: gradients and what is alive beside them at the peak of a step.
    """

    operations: float
    weights: float
    average: float
    optimizer: float
    states: float
    activations: float
    rest: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.weights + self.average + self.optimizer + self.states + self.activations + self.rest


@dataclass(frozen=True)
class Counted:
    """What one network of a training is, on each device.

    forward: operations of one network call for one picture. gradients: bytes, with those of what sends them.
    direct: by backpropagation through all steps, where that is another. checkpoint, saved_weights: bytes of files.
    """

    parameters: int
    trained: int
    gradients: float
    forward: float
    cost: Cost
    direct: Cost | None
    checkpoint: float
    saved_weights: float


def counted(subject: Subject, *, devices: int = 1, gpu: bool = False) -> Counted:
    """Count a training on so many devices, each with its share of a batch. gpu: what torch does on one."""
    fit = subject.config.fit
    each = -(-fit.batch // devices)
    network = subject.network()
    weights, trained = _bytes(network.state_dict().values()), [p for p in network.parameters() if p.requires_grad]
    gradients = _bytes(trained)
    optimizer = _optimizer_bytes(network, subject)
    average = weights if fit.average else 0.0
    buckets = gradients if devices > 1 else 0.0  # of DistributedDataParallel
    after = gradients * (2 if gpu else 1)  # a GPU's optimisers keep a list of temporaries, one for each parameter
    forward = _forward(subject)

    def cost(steps: int, kept: int, tallies: tuple[Tally, Tally]) -> Cost:
        """Of a walk of so many steps, ``kept`` of them with a graph."""
        one, two = tallies
        again = steps - kept
        states = float(again * subject.state * FLOAT * each) if again else 0.0
        peak = _at(one.peak, two.peak, kept) + (gradients if again else 0.0)
        saved = _at(one.saved, two.saved, kept)
        operations = (
            _at(one.operations, two.operations, steps) + again * (subject.calls if again else 0) * forward * each
        )
        rest = max(0.0, max(peak, after) - saved) + buckets
        return Cost(operations, weights, average, optimizer, states, saved, rest)

    steps = subject.steps
    tallies = (
        (_step(subject, each, gpu, 1), _step(subject, each, gpu, 2)) if steps else (_step(subject, each, gpu),) * 2
    )
    own = cost(steps, steps - subject.recomputed, tallies)
    kept_bytes = weights + optimizer + average
    parameters = sum(p.numel() for p in network.parameters())
    return Counted(
        parameters, sum(p.numel() for p in trained), gradients + buckets, forward, own,
        cost(steps, steps, tallies) if subject.recomputed else None, kept_bytes,
        weights / (2 if getattr(fit, "half", False) else 1),
    )  # fmt: skip


def _at(one: float, two: float, steps: int) -> float:
    """The value at so many steps of what is ``one`` at one and ``two`` at two."""
    return one + (two - one) * (steps - 1)


def _step(subject: Subject, pictures: int, gpu: bool, steps: int | None = None) -> Tally:
    """A forward and a backward pass on so many pictures."""
    network, batch = subject.network(steps=steps), subject.example(pictures)

    def work() -> None:
        with Precision(bf16=subject.config.fit.bf16, gpu=gpu):
            value, _ = subject.loss(network, batch)
        value.backward()

    return tally(work, [*network.parameters(), *network.buffers(), *batch])


def _forward(subject: Subject) -> float:
    velocity = subject.velocity(META).eval()
    x, t = torch.zeros(1, *subject.pictures.shape, device=META), torch.zeros(1, device=META)
    with torch.no_grad():
        return tally(lambda: velocity(x, t)).operations


def _optimizer_bytes(network: nn.Module, subject: Subject) -> float:
    """Bytes of the states of the optimisers after a step."""
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizers = build_optimizers(network, subject.config.fit)
    for optimizer in optimizers:
        optimizer.step()
    states = [value for one in optimizers for state in one.state.values() for value in state.values()]
    for parameter in network.parameters():
        parameter.grad = None
    return _bytes(value for value in states if isinstance(value, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> float:
    return float(sum(tensor.nbytes for tensor in tensors))
