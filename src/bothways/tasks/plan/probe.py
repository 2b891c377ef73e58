"""The time of a training's step, from a few real ones on this machine with fewer pictures.

    seconds(pictures) = once + each * pictures,   from the medians of a small and of a larger batch

``once`` are the optimiser, the average and the checks; pictures are of no data, so that reading, augmenting and pairing
them is not in it.
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

FEWEST, TIMES = 2, 3  # pictures of the small batch; steps of each, after one that is not counted
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
    whole = subject.config.fit.batch
    if whole <= FEWEST:
        raise UserError(f"--probe compares two batches, and the training's has {whole}; type --batch {FEWEST + 2}")
    config = subject.config.fit.model_copy(update={"steps": 1000, "rate": 1e-6})
    walks = bool(subject.steps)
    gradient = subject.config.features.gradient if walks else "direct"
    network = subject.network(device, gradient=gradient)
    state = FitState(network, config)

    def seconds(pictures: int) -> float:
        batch = subject.example(pictures, device)
        found, last = [], clock()
        for _ in zip(range(TIMES + 1), fit(state, subject.loss, repeat(batch), config), strict=False):
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            now = clock()
            found.append(now - last)
            last = now
        return median(found[1:])

    with stage("timing a few steps"):
        small = seconds(FEWEST)
        larger = min(whole, max(2 * FEWEST, int(FEWEST * SECONDS / max(small, 1e-6))))
        large = seconds(larger)
    each = max(0.0, (large - small) / (larger - FEWEST)) or small / FEWEST
    return Speed(max(0.0, small - FEWEST * each), each, (FEWEST, larger))
