"""Pictures of several classes, seeds and photographs in one batch on a GPU, each the same as drawn alone, to rounding.

A picture's draws are of its own seed and made on the CPU, whatever is drawn beside it. What differs is the rounding of
sums, which grows over the steps of an ascent: the same picture to look at, not the same bytes.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from bothways.numerics.draws import picture_seed
from bothways.synthesis.ascent import ascend
from bothways.tasks.shelf import work_of

CLASSES_AT_ONCE = 120  # pictures of a row between two lines of results
COPIES_AT_ONCE = 240  # views of a step: 15 to 20 GB of EfficientNet-Lite0's activations
THREADS = 4  # that make the draws of a step


def prepared(device: str) -> None:
    """Sums in float32 as on the CPU, and threads for the draws."""
    torch.set_num_threads(1 if device == "cpu" else THREADS)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def named(device: str) -> str:
    """What a line of results says of the device: "cpu", or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def planned(task: str, model, *given, **settings):
    """A prepared run of a task that draws, without judges, of which ``drawn`` takes pictures."""
    return work_of(task, model, *given, **{"judging.verdicts": False} | settings)


def drawn(work, pictures: Sequence[int], seeds: Sequence[int], labels: Sequence[int] | None = None) -> torch.Tensor:
    """(B,3,H,W) of 8 bits in [0,1] on the model's device: pictures of a run by their numbers, with these seeds.

    labels: a class for each number of the run, in place of its own.
    """
    request = work.request if labels is None else replace(work.request, labels=tuple(labels))
    problem = work.setup.problem(request, request.batch(list(pictures), list(seeds)))
    for _ in ascend(problem.field, problem.ascent, problem.draws):
        pass
    with torch.no_grad():
        inside = work.setup.place.inside(problem.ascent.parameterization.image())
        return (255 * inside.float()).round() / 255


def of_classes(model, targets: Sequence[tuple[int, int]], **settings) -> torch.Tensor:
    """A picture of each (class, seed), the first of a run with that class and seed alone."""
    classes = list(dict.fromkeys(label for label, _ in targets))
    work = planned("generate", model, classes, n=1, **settings)
    found = []
    for part in parts(targets, at_once(work)):
        numbers = [classes.index(label) for label, _ in part]
        found.append(drawn(work, numbers, [picture_seed(seed, 0) for _, seed in part]))
    return torch.cat(found)


def at_once(work) -> int:
    """Pictures of a batch; a group whose pictures share a statistic is never split."""
    config = work.setup.config
    count = max(1, COPIES_AT_ONCE // config.views.copies)
    return count // config.group * config.group if work.coupled else count


def parts(items: Sequence, size: int) -> Iterator[Sequence]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


class Clock:
    """Seconds of a GPU's wall clock, or of the CPU time of this process."""

    def __init__(self, device: str) -> None:
        self.gpu = device.startswith("cuda")
        self.key = "gpu_seconds" if self.gpu else "cpu_seconds"
        self.began = self.now()

    def now(self) -> float:
        if not self.gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self) -> float:
        return self.now() - self.began
