"""What pairing by optimal transport costs a training step: made ahead by a worker, and in line.

    python benchmarks/pairing.py [--data ADDRESS] [--rounds N] [--batch B]

A step is one of ``fit``: batch, forward, backward, Adam, average, on 32-pixel pictures by a U-Net small enough for a
processor (squares of 4 pixels folded into channels), so that a pairing is not lost in it. Three runs take their steps
in turn, in an order that turns too: no pairing (independent) with a worker, pairing in the worker, pairing in line.
A ratio is the median over rounds of two steps of one round, in wall-clock time: the worker's is not this process's.

Floor: 1, a worker that is always ready. Expected: at most 1.05 on two cores or more that are free, one thread each;
in line, 1 + pairing / step. On a machine that others use the ratio is theirs too, and what a step waited for its batch
(``waited_ms``) says more. The pairing's own time grows as B^3, a step as B.
Pictures are random unless --data is given: how long an assignment takes depends on the costs only a little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from bothways.data.images import Augmentation, Batch, batches
from bothways.data.loader import prefetch
from bothways.data.sources import ImageSet, load_images
from bothways.models.nets.unet import UNet
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.couplings import coupling_of
from bothways.representation.couplings.ot import ot
from bothways.representation.flow_matching import flow_matching
from bothways.representation.paths.linear import linear
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit
from bothways.training.pairs import pairs
from bothways.types import Frame, ModelSpec

NETWORK = {"width": 32, "multiples": (1, 2), "blocks": 1, "attention": (2,), "patch": 4}
SPEC = ModelSpec(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0, time_scale=1000.0, path="linear")


def pictures(address: str | None, count: int) -> ImageSet:
    if address is not None:
        return load_images(address, size=SPEC.height, limit=20 * count)
    images = torch.randint(0, 256, (4 * count, 3, SPEC.height, SPEC.width), generator=generator(0)).byte()
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64), ())


def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    return flow_matching(network, linear, *batch).mean(), {}


def timed(made: Iterator[tuple[Tensor, ...]], waits: list[float]) -> Iterator[tuple[Tensor, ...]]:
    """The batches, and in ``waits`` the seconds that each was waited for."""
    while True:
        began = time.perf_counter()
        batch = next(made, None)
        waits.append(time.perf_counter() - began)
        if batch is None:
            return
        yield batch


def steps_of(data: ImageSet, size: int, coupling: str, workers: int, waits: list[float], count: int) -> Iterator[Frame]:
    """A training of its own: a frame a step."""
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        flow = Flow(UNet(**NETWORK), SPEC)
    drawn = batches(data, size, 0, Augmentation(crop=0, flip=True))
    paired = pairs(drawn, Flow(nn.Identity(), SPEC).code, coupling_of(coupling), 0)
    settings = FitConfig(steps=count, optimizer="adamw", rate=1e-4, warmup=0.2, schedule="linear", clip=0.0)
    return fit(FitState(flow, settings), loss, timed(prefetch(paired, 0, count, workers), waits), settings)


def own_time(data: ImageSet, size: int, rounds: int = 7) -> float:
    """Seconds of one pairing, the median, in CPU time."""
    code, found = Flow(nn.Identity(), SPEC).code, []
    x = code(first(data, size, 0)[0])
    for step in range(rounds):
        noise = torch.randn(x.shape, generator=generator(0, step))
        began = time.process_time()
        ot(x, noise)
        found.append(time.process_time() - began)
    return statistics.median(found)


def first(data: ImageSet, size: int, step: int) -> Batch:
    return batches(data, size, 0, Augmentation(crop=0, flip=False))(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="pictures, as load_images takes them; random ones without")
    parser.add_argument("--rounds", type=int, default=21, help="rounds of interleaved steps")
    parser.add_argument("--batch", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = pictures(asked.data, asked.batch)
    pairing = own_time(data, asked.batch)
    run = partial(steps_of, data, asked.batch, count=asked.rounds + 1)
    asked_of = {"independent": ("independent", 1), "worker": ("ot", 1), "in line": ("ot", 0)}
    waits: dict[str, list[float]] = {name: [] for name in asked_of}
    runs = {name: run(coupling=c, workers=w, waits=waits[name]) for name, (c, w) in asked_of.items()}
    for frames in runs.values():  # the first step starts the worker and waits for its first batch
        next(frames)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(asked.rounds):
        for name in names[turn % 3 :] + names[: turn % 3]:
            began = time.perf_counter()
            next(runs[name])
            seconds[name].append(time.perf_counter() - began)
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[name], seconds["independent"], strict=True))
        for name in ("worker", "in line")
    }
    print(f"batch {asked.batch}, {os.cpu_count()} cores, {asked.rounds} rounds")
    waited = {name: 1000 * statistics.median(found[1:]) for name, found in waits.items()}
    for name, taken in seconds.items():
        step = 1000 * statistics.median(taken)
        print(
            f"  {name:12} {step:8.0f} ms a step   x {ratios.get(name, 1.0):.3f}   {waited[name]:.1f} ms of it waiting"
        )
    print(f"  the pairing alone {1000 * pairing:.1f} ms")
    step = statistics.median(seconds["independent"])
    facts = {
        "ratio": round(ratios["worker"], 4),
        "ratio_in_line": round(ratios["in line"], 4),
        "waited_ms": round(waited["worker"], 2),
        "waited_in_line_ms": round(waited["in line"], 2),
        "pairing_ms": round(1000 * pairing, 2),
        "step_ms": round(1000 * step, 1),
        "batch": asked.batch,
        "rounds": asked.rounds,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
