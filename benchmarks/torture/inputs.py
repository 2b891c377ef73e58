"""Damaged pictures, weights and tables by the thousand: how many give a result, how many one line, and what breaks.

    PYTHONPATH=tests python benchmarks/torture/inputs.py --pictures 5000 --weights 2000 --tables 2000 [--first 0]

Every file is a function of its number, as in tests/mutated.py. Each is read in turn in a child process with limits on
its time and memory; a number whose file hangs, takes too much, or raises anything but one line is printed as "broken",
and the child goes on with the next. The exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bothways import budget, load_images
from bothways.data.readers.decoding import decode_image
from bothways.models.weights import load_weights
from bothways.runs import from_png
from guard import BrokenError, guarded, outcome
from mutated import mutated_parquet, mutated_picture, mutated_weights
from toy_model import seeded

TOGETHER = 50  # files of a child
SECONDS, MEGABYTES = 20, 1_100  # of a child


def picture(number: int, folder: Path) -> str:
    suffix, content = mutated_picture(number)
    found = outcome(lambda: decode_image(content))
    outcome(lambda: from_png(content))
    return f"{found} {suffix}"


def weights(number: int, folder: Path) -> str:
    module, file = seeded(), folder / "mine.safetensors"
    file.write_bytes(mutated_weights(number, {k: v.contiguous() for k, v in module.state_dict().items()}))
    found = outcome(lambda: load_weights(module, file), str(file))
    broken = [name for name, value in module.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise AssertionError(f"{broken[0]} was loaded and is not finite")
    return found


def table(number: int, folder: Path) -> str:
    file = folder / "mine.parquet"
    mutated_parquet(number, file)
    return outcome(lambda: load_images(file, size=8), str(file))


KINDS: dict[str, Callable[[int, Path], str]] = {"pictures": picture, "weights": weights, "tables": table}


def several(read: Callable[[int, Path], str], numbers: range, folder: Path) -> list[tuple[int, str]]:
    """(number, outcome) of each, in this process."""
    warnings.simplefilter("ignore")
    budget.free_memory = lambda device="cpu": float("inf")  # what bounds a file is the file, however much is free
    return [(number, _one(read, number, folder)) for number in numbers]


def _one(read: Callable[[int, Path], str], number: int, folder: Path) -> str:
    try:
        return read(number, folder)
    except Exception as error:
        return f"broken: {type(error).__name__}: {' '.join(str(error).split())[:100]}"


def outcomes(read: Callable[[int, Path], str], first: int, count: int, folder: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(first, first + count, TOGETHER):
        numbers = range(start, min(start + TOGETHER, first + count))
        try:
            found |= dict(guarded(partial(several, read, numbers, folder), seconds=SECONDS, megabytes=MEGABYTES))
        except BrokenError:  # one of them: each in a child of its own
            for number in numbers:
                try:
                    call: Any = partial(several, read, range(number, number + 1), folder)
                    found |= dict(guarded(call, seconds=SECONDS, megabytes=MEGABYTES))
                except BrokenError as error:
                    found[number] = f"broken: {error}"
    return found


def main() -> int:
    typed = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, usual in {"pictures": 5_000, "weights": 2_000, "tables": 2_000}.items():
        typed.add_argument(f"--{kind}", type=int, default=usual, help=f"how many {kind} (default {usual:,})")
    typed.add_argument("--first", type=int, default=0, help="the first number")
    given = typed.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        for kind, read in KINDS.items():
            count = getattr(given, kind)
            found = outcomes(read, given.first, count, Path(place))
            counts = Counter(text.partition(" ")[0].rstrip(":") for text in found.values())
            told = ", ".join(f"{counts[name]:,} {name}" for name in ("result", "line", "broken"))
            print(f"{kind}: {count:,} files: {told}", flush=True)
            for number, text in found.items():
                if text.startswith("broken"):
                    print(f"  {kind} {number}: {text}")
            bad += counts["broken"]
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
