"""The time of a training's step, from a few real ones on this machine.

    seconds(pictures) = once + each * pictures,   through the medians of the two largest batches that are timed

Batches grow until a step takes about SECONDS, until the training's own batch, or near the memory that is free: what few
pictures take on a GPU is the start of its kernels alone. ``once`` are the optimiser, the average, the checks and what
every part of an accumulated batch begins with; pictures are of no data, so that reading, augmenting and pairing them is
not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from statistics import median

import torch

from bothways import budget
from bothways.progress import stage
from bothways.tasks.plan.subject import Subject
from bothways.training.fit import FitState, fit
from bothways.types import UserError

FEWEST = 2  # pictures of the smallest batch, or of each of its parts
TIMES = 3  # steps of each, after one that is not counted
SECONDS = 2.0  # that a step of the largest batch may take, about
ROOM = 0.8  # share of the free memory that a batch may take


@dataclass(frozen=True)
class Speed:
    """Seconds of a step: once, and for each picture. pictures: of the two largest batches that were timed."""

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
    state, free = FitState(network, config), budget.free_memory(device)
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

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
        pictures, times = [few], [seconds(few)]
        while pictures[-1] < whole:
            share = min(SECONDS / max(times[-1], 1e-6), ROOM * free / max(_taken(device), 1.0))
            more = min(whole, max(int(share * pictures[-1]), 2 * few) // parts * parts)
            if more < min(whole, 2 * pictures[-1]):
                break
            try:
                taken = seconds(more)
            except (MemoryError, RuntimeError) as error:
                if len(times) < 2 or not budget.no_memory_left(error):
                    raise
                break
            if state.parts != parts:  # no memory was left, and the training went on in more parts
                break
            times.append(taken)
            pictures.append(more)
    if len(times) < 2:
        raise UserError(f"--probe: no memory is left for a batch of {2 * few} pictures; plan a smaller network")
    (less, many), (small, large) = pictures[-2:], times[-2:]
    each = max(0.0, (large - small) / (many - less))
    return Speed(max(0.0, large - many * each), each, (less, many))


def _taken(device: str) -> float:
    """The most bytes that the steps so far took of a GPU; 0 on a CPU, where a step of SECONDS is small."""
    return float(torch.cuda.max_memory_allocated(device)) if torch.device(device).type == "cuda" else 0.0
