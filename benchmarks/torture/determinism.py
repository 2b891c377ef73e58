"""What changes a result: pictures at once, workers, processes, threads, a stop on the way, half precision.

    PYTHONPATH=tests python benchmarks/torture/determinism.py [TASK ...]

Each task is done once as the reference, by one thread, in float32, and again with one thing changed. What it writes
is compared by the largest absolute difference of all its numbers: pixels in 1/255, features, measures, weights. The
figures go to benchmarks/results/torture.jsonl and docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file

from bothways.training.checkpoint import Training
from disk import Disk, forked
from golden_cases import TOY, Made
from golden_values import numbers
from killed import typed
from reliability import record, told_of

TRAINED = "pretrain --data digits --batch 8 --validation 8 --net unet-tiny --steps 4 --save-every 2"
TUNED = "finetune @pretrain-otcfm --data digits --batch 8 --validation 8 --train-steps 3 --depth 0.4 --steps 2"
HALF = "--dtype bf16"
TASKS: dict[str, tuple[str, str, str, str]] = {  # command, as it is first, in other batches, in half precision
    "generate": (
        f"generate {TOY} --class anchor dragon --n 2 --steps 4 --recipe das --seed 3",
        "--batch 4",
        "--batch 1",
        HALF,
    ),
    "sample": ("sample flow --n 4 --steps 3", "--batch 4", "--batch 1", HALF),
    "features": (
        "features flow --data split --kind walked activations --depth 0.5 --steps 2 --probe none",
        "--batch 8 --workers 0",
        "--batch 3 --workers 0",
        HALF,
    ),
    "evaluate": (f"evaluate {TOY} --data split", "--batch 40", "--batch 7", HALF),
    "likelihood": ("likelihood flow --data small --limit 4 --steps 2", "--batch 4", "--batch 1", HALF),
    "pretrain": (TRAINED, "--workers 0", "", "--bf16"),
    "finetune": (TUNED, "--workers 0", "", "--bf16"),
}
SECONDS = 300  # of a run; a change that takes longer is left out
WORKERS = ("features", "pretrain", "finetune")  # that read ahead in processes of their own
PROCESSES = ("pretrain",)  # tried as two processes of one training, from the first step and from a checkpoint of one
SOURCE = Path(__file__).resolve().parents[2] / "src"
MOVED_AT = 2  # the step after whose checkpoint that one is killed


def threads(words: list[str], place: Path, number: int) -> None:
    torch.set_num_threads(number)
    typed(words, place)


def left(words: list[str], place: Path) -> None:
    """Type a training that is killed after a checkpoint."""
    save = Training.save

    def saved(training: Training) -> None:
        save(training)
        if training.saved == MOVED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    Training.save = saved  # type: ignore[method-assign]
    typed(words, place)


def found_in(folder: Path) -> dict[str, np.ndarray]:
    """{file and name: all its numbers} of what a run wrote; pictures in 1/255."""
    found: dict[str, np.ndarray] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if "state" in name.split("/") or name == "sheet.png":
            continue
        if file.suffix == ".png":
            found[name] = np.asarray(Image.open(file)).astype(float)
        elif file.suffix == ".safetensors":
            found |= {f"{name} {key}": value.double().numpy() for key, value in load_file(file).items()}
        elif file.suffix == ".parquet":
            table = pq.read_table(file)
            lists = [field.name for field in table.schema if str(field.type).startswith("fixed_size_list")]
            found |= {f"{name} {key}": np.array(table[key].to_pylist(), float) for key in lists}
        elif file.name == "measures.json":
            told = numbers(json.loads(file.read_text()), top=True)
            found[name] = np.array([value for value in leaves(told) if value is not None], float)
    return found


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of any number; -1 where there are others, or another number of them."""
    if {k: v.shape for k, v in one.items()} != {k: v.shape for k, v in other.items()}:
        return -1.0
    return max((float(np.abs(one[name] - other[name]).max(initial=0.0)) for name in one), default=0.0)


def by_two_processes(words: list[str], place: Path) -> int:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE)}
    ended = subprocess.run(
        [*run, "-m", "bothways", *words], cwd=place, env=environment, capture_output=True, check=False
    )
    return ended.returncode


def matrix(task: str, made: Made) -> dict[str, float]:
    """{what was changed: the largest difference} of a task."""
    command, first, other, half = TASKS[task]
    words = [f"made/{made.folder(word[1:]).name}" if word[0] == "@" else word for word in shlex.split(command)]
    place = made.place
    found: dict[str, float] = {}

    def run(name: str, more: str, number: int = 1) -> Path:
        out = f"matrix/{task}/{name}"
        ended = forked(partial(threads, [*words, *shlex.split(more), "--out", out], place, number), seconds=SECONDS)
        if ended.code == -signal.SIGALRM:  # as where threads wait for each other on a machine that is busy
            raise TimeoutError(name)
        assert ended.code == 0, ended.said[-600:]
        return place / out

    reference = found_in(run("reference", first))
    found["again"] = apart(reference, found_in(run("again", first)))
    if other:
        found["batch"] = apart(reference, found_in(run("batch", other)))
    with suppress(TimeoutError):
        found["threads"] = apart(reference, found_in(run("threads", first, 2)))
    if task in WORKERS:
        found["workers"] = apart(reference, found_in(run("workers", first.replace("--workers 0", "--workers 2"))))
    if task in PROCESSES:
        for name, more in (("processes", []), ("moved", ["--resume"])):
            out = place / "matrix" / task / name
            if more:  # begun by one process, which is killed
                assert forked(partial(left, [*words, *shlex.split(first), "--out", str(out)], place)).code == -9
            code = by_two_processes([*words, *shlex.split(first), "--out", str(out), *more], place)
            found[name] = apart(reference, found_in(out)) if code == 0 else -1.0
    out = place / "matrix" / task / "stopped"
    ended = forked(partial(typed, [*words, *shlex.split(first), "--out", str(out)], place), Disk(out, "kill", 90))
    if ended.code == -9:
        again = [
            *words,
            *shlex.split(first),
            "--out",
            str(out),
            *(["--resume"] if (out / "recipe.toml").exists() else []),
        ]
        ended = forked(partial(typed, again, place))
        assert ended.code == 0, ended.said[-600:]
        found["resume"] = apart(reference, found_in(out))
    found["bf16"] = apart(reference, found_in(run("bf16", f"{first} {half}")))
    return found


def main() -> int:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        made = Made(Path(place))
        for task in sys.argv[1:] or TASKS:
            found = matrix(task, made)
            told = ", ".join(f"{name} {told_of(value)}" for name, value in found.items())
            print(f"{task}: {told}", flush=True)
            record([{"part": "determinism", "kind": "matrix", "name": task, **found}])
    return 0


if __name__ == "__main__":
    sys.exit(main())
