"""What ``bothways.features`` costs beside the bare calls of the network, and how long a test set takes.

    python benchmarks/features.py --data path/to/cifar10 [--rounds N] [--batch B] [--dtype bf16]
    python benchmarks/features.py --data path/to/cifar10 --test-set [--pictures 1000]

A batch by ``features``, which calls the network and at every 1,024th picture writes a part, while a worker reads and
decodes the next; then a batch by the network alone, on as many pictures in memory, in the same precision; which comes
first turns from batch to batch. A round is a whole part. The medians over rounds of bare / features, of the sums of one
round:

    ratio_cpu     in CPU time of this process and of what the worker takes to read and decode a batch
    ratio         in CPU time of this process: what is left where the worker has a core of its own. The target is 0.95
    ratio_wall    in wall-clock time, which on a machine that others use is theirs too

--test-set: seconds and calls of the network for some test pictures, and scaled to 10,000. PRG names 3 s for the 10,000
test pictures of CIFAR-10, with a network of 42 M on an A100 (Xue et al. 2024, arXiv 2412.01787): another machine and
another network, so the two are no race.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import bothways
from bothways.data.rows.reader import Reader
from bothways.representation.activations import MIDDLE, activations
from bothways.representation.encode import Walk, walk
from bothways.tasks.features.plan import ROWS
from bothways.tasks.shelf import work_of

FLOW = "bundled:cifar10-flow"
KINDS: dict[str, dict[str, Any]] = {
    "activations": {"kind": "activations", "depth": 0.1},
    "walked": {"kind": "walked", "depth": 0.5, "steps": 5},
}
PAPER = {"seconds": 3.0, "pictures": 10_000, "machine": "A100"}


def spent() -> float:
    """CPU seconds of this process, all its threads, and the workers that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def worker_of(data: str, count: int, batch: int) -> float:
    """CPU seconds in which one batch is read and decoded, as the worker does it."""
    reader = Reader(data, "test", count, (32, 32), batch)
    reader(0)
    began = time.process_time()
    for step in range(1, count // batch):
        reader(step)
    return (time.process_time() - began) / max(1, count // batch - 1)


def bare(flow: Any, kind: str, x: torch.Tensor) -> Callable[[], Any]:
    """The calls of the network of one batch that is in memory, and nothing else."""
    code = flow.code(x)
    if kind == "activations":
        return lambda: activations(flow, code, KINDS[kind]["depth"], [MIDDLE])
    return lambda: walk(flow, code, 1.0, 1.0 - KINDS[kind]["depth"], Walk(KINDS[kind]["steps"]))


def measured(kind: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The medians over rounds of one kind."""
    part = ROWS // asked.batch
    count = asked.batch * part * (asked.rounds + 1)
    options = {"splits": "test", "limit": count, "probes": "none", "batch": asked.batch, "dtype": asked.dtype}
    with tempfile.TemporaryDirectory() as place:
        work: Any = work_of("features", FLOW, asked.data, **KINDS[kind], **options, out=Path(place) / "run")
        x = bothways.load_images(asked.data, split="test", limit=asked.batch).images.float() / 255
        alone = bare(work.extractor.flow, kind, x)
        frames = work.run()
        for _ in range(part):
            next(frames)
        run_alone(alone)
        rounds = [paired(lambda: next(frames), lambda: run_alone(alone), part) for _ in range(asked.rounds)]
        last = timed(lambda: list(frames))
    reading = worker_of(asked.data, min(count, 5 * asked.batch), asked.batch)
    whole = statistics.median(b / (c + part * reading) for c, _, b, _ in rounds)
    own = statistics.median(b / c for c, _, b, _ in rounds)
    wall = statistics.median(b / w for _, w, _, b in rounds)
    middle = statistics.median(c for c, *_ in rounds)
    return {
        "ratio": round(own, 4), "ratio_cpu": round(whole, 4), "ratio_wall": round(wall, 4),
        "ms_a_batch": round(1000 * middle / part, 1),
        "reading_ms": round(1000 * reading, 2), "joining_s": round(last[1], 3),
    }  # fmt: skip


def paired(one: Callable[[], Any], other: Callable[[], Any], turns: int) -> tuple[float, float, float, float]:
    """The sums over turns of both: CPU and wall-clock seconds of the one, then of the other."""
    sums = [0.0] * 4
    for turn in range(turns):
        times = [timed(each) for each in ((one, other) if turn % 2 else (other, one))]
        for place, value in enumerate(v for pair in (times if turn % 2 else times[::-1]) for v in pair):
            sums[place] += value
    return sums[0], sums[1], sums[2], sums[3]


@torch.no_grad()
def run_alone(call: Callable[[], Any]) -> None:
    call()


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """(CPU, wall-clock) seconds of a call, of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def test_set(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The facts of each kind for so many test pictures."""
    for kind, how in KINDS.items():
        options = {"splits": "test", "limit": asked.pictures, "probes": "none", "batch": asked.batch}
        began, cpu = time.perf_counter(), spent()
        made = bothways.features(FLOW, asked.data, **how, **options, dtype=asked.dtype)
        seconds, used = time.perf_counter() - began, spent() - cpu
        scale = PAPER["pictures"] / asked.pictures  # type: ignore[operator]
        calls = made.facts.calls
        yield {
            "kind": kind, "pictures": asked.pictures, "seconds": round(seconds, 2), "cpu_seconds": round(used, 2),
            "calls_a_picture": calls, "calls": calls * -(-asked.pictures // asked.batch),
            "cpu_seconds_10000": round(used * scale, 1), "paper": PAPER,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="pictures of 32 pixels with a test split, as load_images has it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--test-set", action="store_true", help="seconds and calls for some test pictures")
    parser.add_argument("--pictures", type=int, default=1000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.test_set:
        for row in test_set(asked):
            print(json.dumps(row), flush=True)
        return
    found = {kind: measured(kind, asked) for kind in asked.kinds}
    ratio = min(row["ratio"] for row in found.values())
    print(json.dumps({"ratio": ratio, **found, "batch": asked.batch, "rounds": asked.rounds, "dtype": asked.dtype}))


if __name__ == "__main__":
    main()
