"""Two processes of one thread beside one process of two threads, on two cores: pictures a second.

    python benchmarks/processes.py [--rounds 3] [--out FILE.json]

For pretrain (steps of digits), features and sample (the bundled flow). A round is a launch of each kind, and which is
first turns from round to round, so that what else the machine does meets both. Timed are the frames of a run, from the
moment when all processes are ready to that when all are done, without the start and the measures.

    ratio     pictures a second of two processes / of one, the median over rounds, with the least and the greatest
    floor     0.9: below it two processes are not worth their start on one machine
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLOOR = 0.9
FLOW = "bundled:cifar10-flow"
TASKS: dict[str, dict[str, Any]] = {
    "pretrain": {"data": "digits", "steps": 10, "fit.batch": 32, "workers": 0, "save_every": 1000},
    "features": {"flow": FLOW, "data": "digits", "splits": "train", "limit": 96, "batch": 8, "depth": 0.5, "steps": 1},
    "sample": {"flow": FLOW, "n": 16, "batch": 4, "steps": 4, "judges": []},
}
PICTURES = {"pretrain": 10 * 32, "features": 96, "sample": 16}


def timed(out: Path) -> dict[str, float]:
    """In each process: the seconds of the frames of every task."""
    from bothways.tasks.features import plan
    from bothways.tasks.shelf import work_of

    plan.ROWS = 16  # of a part: enough parts for two processes
    found = {}
    for task, settings in TASKS.items():
        extra = {"workers": 0, "probes": "none"} if task == "features" else {}
        work = work_of(task, out=out / task, **settings, **extra)
        processes = work.experiment.processes
        processes.wait()
        began = time.monotonic()
        for _ in work.run():
            pass
        processes.wait()
        found[task] = time.monotonic() - began
    return found


def launched(processes: int) -> dict[str, float]:
    """Start so many processes on two cores; the seconds that the first tells."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", folder]
        if processes > 1:
            start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
            command = [sys.executable, *start, *command[1:]]
        here = {"OMP_NUM_THREADS": str(2 // processes), "GLOO_SOCKET_IFNAME": "lo"}
        subprocess.run(command, env=os.environ | here, check=True, capture_output=True)
        return json.loads((Path(folder) / "seconds.json").read_text())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path)
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child is not None:
        seconds = timed(given.child)
        if os.environ.get("RANK", "0") == "0":
            (given.child / "seconds.json").write_text(json.dumps(seconds))
        return
    speeds: dict[str, dict[int, list[float]]] = {task: {1: [], 2: []} for task in TASKS}
    for number in range(given.rounds):
        for processes in (1, 2) if number % 2 == 0 else (2, 1):
            for task, seconds in launched(processes).items():
                speeds[task][processes].append(PICTURES[task] / seconds)
    found = {}
    for task, by in speeds.items():
        ratios = [two / one for one, two in zip(by[1], by[2], strict=True)]
        middle = statistics.median(ratios)
        one, two = (statistics.median(by[count]) for count in (1, 2))
        found[task] = {"one": one, "two": two, "ratio": middle, "least": min(ratios), "greatest": max(ratios)}
        held = "holds" if middle >= FLOOR else "DOES NOT HOLD"
        print(f"{task}: one {one:.1f}/s, two {two:.1f}/s, ratio {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
              f"floor {FLOOR} {held}")  # fmt: skip
    if given.out is not None:
        given.out.write_text(json.dumps({"floor": FLOOR, "rounds": given.rounds, "tasks": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
