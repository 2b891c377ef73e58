"""The time of a training's step, from a few real ones on this machine with fewer pictures.

    seconds(pictures) = once + each * pictures,   from the medians of a small and of a larger batch

``once`` are the optimiser, the average, the checks and what every part of an accumulated batch begins with; pictures
are of no data, so that reading, augmenting and pairing them is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from statistics import median

import torch

from bothways.progress import stage
from bothways.tasks.plan.subject import Subject
from bothways.training.fit import FitState, fit
from bothways.types import UserError

FEWEST = 2  # pictures of the small batch, or of each of its parts
TIMES = 3  # steps of each, after one that is not counted
SECONDS = 2.0  # that a step of the larger batch may take, about


@dataclass(frozen=True)
class Speed:
    """Seconds of a step: once, and for each picture. pictures: of the two batches."""

    once: float
    each: float
    pictures: tuple[int, int]

    def seconds(self, pictures: int) -> float:
        """Of a step of so many pictures."""
        return self.once + self.each * pictures


def probed(subject: Subject, device: str, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """The speed of a training on a device of this machine, by a clock. Raises UserError for a batch of one picture."""
    whole, parts = subject.config.fit.batch, subject.config.fit.accumulate
    few = FEWEST * parts
    if whole <= few:
        said = f"in {parts} parts, of more than {few} pictures, " if parts > 1 else ""
        raise UserError(
            f"--probe compares two batches, {said}and the training's has {whole}; type --batch {(FEWEST + 2) * parts}"
        )
    config = subject.config.fit.model_copy(update={"steps": 1000, "rate": 1e-6})
    walks = bool(subject.steps)
    gradient = subject.config.features.gradient if walks else "direct"
    network = subject.network(device, gradient=gradient)
    state = FitState(network, config)

    def seconds(pictures: int) -> float:
        batch = tuple(torch.cat([part] * parts) for part in subject.example(pictures // parts, device))
        found, last = [], clock()
        for _ in zip(range(TIMES + 1), fit(state, subject.loss, repeat(batch), config), strict=False):
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            now = clock()
            found.append(now - last)
            last = now
        return median(found[1:])

    with stage("timing a few steps"):
        small = seconds(few)
        larger = min(whole, max(2 * few, int(few * SECONDS / max(small, 1e-6)) // parts * parts))
        large = seconds(larger)
    each = max(0.0, (large - small) / (larger - few)) or small / few
    return Speed(max(0.0, small - few * each), each, (few, larger))
