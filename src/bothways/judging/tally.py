"""Streaming evaluation of a classifier on labelled pictures: top-1, top-5, NLL, calibration and confusion.

    top-1 = mean [y = argmax_k f_k(x)],   top-5 = mean [y among the 5 largest],   NLL = -mean log softmax(f(x))_y

All sums are additive over batches, so memory grows by one byte per picture only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bothways.budget import AtOnce
from bothways.numerics.measures import CALIBRATION_BINS, calibration_sums
from bothways.numerics.modules import check_finite
from bothways.types import Frame, VisionModel

TOP = 5
UNSEEN = -1


class Counts(NamedTuple):
    """What a batch adds to a tally: labels, answers and places (B,), and the sums of its pictures (see ``Tally``)."""

    labels: Tensor
    answers: Tensor
    places: Tensor
    top: int
    nll: float
    sums: Tensor


class Tally:
    """Running totals of an evaluation.

    confusion: {(label, prediction): pictures}. top: label among the TOP largest. nll: summed, in nats.
    sums: (B,3), see ``calibration_sums``. hits: (pictures,) int8, 1 right, 0 wrong, UNSEEN.
    """

    def __init__(self, pictures: int) -> None:
        self.confusion: Counter[tuple[int, int]] = Counter()
        self.top, self.nll = 0, 0.0
        self.sums = torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64)
        self.hits = torch.full((pictures,), UNSEEN, dtype=torch.int8)

    @property
    def n(self) -> int:
        return self.confusion.total()

    @property
    def right(self) -> int:
        return sum(count for (label, answer), count in self.confusion.items() if label == answer)

    def add(self, outputs: Tensor, labels: Tensor, places: Tensor) -> None:
        """Add one batch: outputs (B,K) logits, labels (B,), places (B,) the indices of its pictures."""
        self.include(counts_of(outputs, labels, places))

    def include(self, counts: Counts) -> None:
        """Add what was counted of a batch; in the order of the batches, the totals are the same to the bit."""
        self.confusion.update(zip(counts.labels.tolist(), counts.answers.tolist(), strict=True))
        self.top += counts.top
        self.nll += counts.nll
        self.sums += counts.sums
        self.hits[counts.places] = (counts.answers == counts.labels).to(torch.int8)


def counts_of(outputs: Tensor, labels: Tensor, places: Tensor) -> Counts:
    """What one batch adds: outputs (B,K) logits, labels (B,), places (B,) the indices of its pictures."""
    log_p = outputs.detach().cpu().double().log_softmax(1)
    confidence, answers = log_p.max(1)
    own = log_p.gather(1, labels[:, None])
    # of equal outputs the first counts as larger, as in max: topk takes any, and so could leave out the answer itself
    before = (log_p == own) & (torch.arange(log_p.shape[1]) < labels[:, None])
    top = int((((log_p > own) | before).sum(1) < TOP).sum())
    nll = -float(own.sum())
    return Counts(labels, answers, places, top, nll, calibration_sums(confidence.exp(), answers == labels))


def evaluate(
    model: VisionModel, batches: Iterable[tuple[Tensor, Tensor, Tensor]], tally: Tally
) -> Generator[Frame, None, None]:
    """Evaluate a model batch by batch; yields a frame with the running accuracy and NLL, totals in ``tally``.

    batches: images (B,3,H,W) in [0,1], labels (B,) as indices of the model's outputs, places (B,) in the tally.
    Raises RunError if an output is not finite.
    """
    at_once = AtOnce("pictures")
    for step, (images, labels, places) in enumerate(batches, start=1):
        tally.include(counted(model, images, labels, places, at_once))
        share = tally.n / max(1, len(tally.hits))
        yield Frame(step, share, None, {"accuracy": tally.right / tally.n, "nll": tally.nll / tally.n})


def counted(model: VisionModel, images: Tensor, labels: Tensor, places: Tensor, at_once: AtOnce) -> Counts:
    """What a batch adds to the tally of a model. Raises RunError if an output is not finite.

    at_once: how many pictures the model is given at once, which falls where no memory is left.
    """
    device = getattr(model, "device", "cpu")
    with torch.no_grad():
        outputs = torch.cat(at_once.over(images, lambda some: model.outputs(some.to(device))))
    check_finite(outputs, f"model {model.name!r} gives outputs")
    return counts_of(outputs, labels, places)
