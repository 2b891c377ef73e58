"""A classifier on labelled pictures, a batch at a time: pictures + labels -> frames, and what they add up to.

    top-1 = mean [y = argmax_k f_k(x)],   top-5 = mean [y among the 5 largest],   NLL = -mean log softmax(f(x))_y

All of it adds over batches, so that the memory held does not grow with the pictures but for a byte each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable

import torch
from torch import Tensor

from bothways.numerics.measures import CALIBRATION_BINS, calibration_sums
from bothways.numerics.modules import check_finite
from bothways.types import Frame, VisionModel

TOP = 5
UNSEEN = -1


class Tally:
    """What was seen so far.

    called: {(label, answer): pictures}. top: right among the TOP largest. nll: summed, in nats.
    sums: (B,3), see ``calibration_sums``. hits: (pictures,) int8, 1 right, 0 wrong, UNSEEN.
    """

    def __init__(self, pictures: int) -> None:
        self.called: Counter[tuple[int, int]] = Counter()
        self.top, self.nll = 0, 0.0
        self.sums = torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64)
        self.hits = torch.full((pictures,), UNSEEN, dtype=torch.int8)

    @property
    def n(self) -> int:
        return self.called.total()

    @property
    def right(self) -> int:
        return sum(count for (label, answer), count in self.called.items() if label == answer)

    def add(self, outputs: Tensor, labels: Tensor, places: Tensor) -> None:
        """Count one batch: outputs (B,K) logits, labels (B,), places (B,) the numbers of its pictures."""
        log_p = outputs.detach().cpu().double().log_softmax(1)
        confidence, answers = log_p.max(1)
        hit = answers == labels
        self.called.update(zip(labels.tolist(), answers.tolist(), strict=True))
        largest = log_p.topk(min(TOP, log_p.shape[1]), 1).indices
        self.top += int((largest == labels[:, None]).any(1).sum())
        self.nll -= float(log_p.gather(1, labels[:, None]).sum())
        self.sums += calibration_sums(confidence.exp(), hit)
        self.hits[places] = hit.to(torch.int8)


def evaluate(
    model: VisionModel, batches: Iterable[tuple[Tensor, Tensor, Tensor]], tally: Tally
) -> Generator[Frame, None, None]:
    """Yield a frame after every batch, with the accuracy and the negative log-likelihood so far; ``tally`` adds up.

    batches: images (B,3,H,W) in [0,1], labels (B,) that are numbers of the model's outputs, places (B,) in the tally.
    Raises RunError where an output is not finite.
    """
    device = getattr(model, "device", "cpu")
    for step, (images, labels, places) in enumerate(batches, start=1):
        with torch.no_grad():
            outputs = model.outputs(images.to(device))
        check_finite(outputs, f"model {model.name!r} gives outputs")
        tally.add(outputs, labels, places)
        share = tally.n / max(1, len(tally.hits))
        yield Frame(step, share, None, {"accuracy": tally.right / tally.n, "nll": tally.nll / tally.n})
