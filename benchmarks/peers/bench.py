"""bothways beside the libraries one would otherwise take: ``make bench``.

    python benchmarks/peers/bench.py [--groups torchcfm pot ...] [--pairs 9] [--environments FOLDER] [--page]

Makes the environments of peers (environments.py), runs the script of each group in its own, and writes
benchmarks/results/peers.csv, where a group that is run again takes the place of its earlier rows, and
docs/benchmarks.md. --page: write the page alone. Ends with exit code 1 where results must agree and do not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from environments import GROUPS, HERE, INTO, ROOT, make, plain, python_of
from page import PAGE, RESULTS, page, read
from pairs import PAIRS

SCRIPTS = {name: HERE / f"with_{name}.py" for name in GROUPS} | dict.fromkeys(
    ("lucent", "horama"), HERE / "with_drawers.py"
)
FIELDS = ["kind", "group", "work", "peer", "version", "theirs_ms", "ours_ms", "ratio", "low", "high", "pairs"]
FIELDS += ["of", "difference", "tolerance", "note", "error", "with", "never"]
FIELDS += ["date", "python", "torch", "bothways", "device", "threads", "load"]


def stamp() -> dict[str, Any]:
    """When and on what this is measured. load: of the machine before, in processes."""
    import torch

    import bothways

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bothways": bothways.__version__,
        "device": processor(),
        "threads": 1,
        "load": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """The name of the processor, and the number of its cores."""
    file = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in file.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def rows_of(name: str, into: Path, pairs: int) -> tuple[list[dict[str, Any]], str]:
    """(the rows of a group, why its script ended before its end or "")."""
    starts = [{"kind": "start", **start} for start in make(name, into)]
    if all(start["never"] for start in starts):
        return starts, ""
    command = [python_of(name, into), SCRIPTS[name], "--pairs", str(pairs)]
    done = subprocess.run(command, env=plain(), capture_output=True, text=True, check=False)
    found = [{"kind": "work", **json.loads(line)} for line in done.stdout.splitlines() if line.startswith('{"work"')]
    why = (done.stderr.strip().splitlines() or ["no word"])[-1] if done.returncode else ""
    return [*starts, *found], why


def write(rows: list[dict[str, Any]]) -> None:
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--pairs", type=int, default=PAIRS, help="runs of each of the two")
    parser.add_argument("--environments", type=Path, default=INTO, help="folder of the peers' environments")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md of the results file, and stop")
    options = parser.parse_args()
    failed = False
    for name in [] if options.page else options.groups:
        facts = {"group": name, **stamp()}
        found, why = rows_of(name, options.environments.resolve(), options.pairs)
        before = read() if RESULTS.is_file() else []
        new = [{**facts, **row} for row in found]
        order = list(GROUPS)
        rows = [row for row in before if row["group"] != name] + new
        write(sorted(rows, key=lambda row: order.index(row["group"]) if row["group"] in order else len(order)))
        for row in found:
            if row["kind"] == "work":
                ends = f"{row['low']:.3g} to {row['high']:.3g}"
                print(f"{row['ratio']:6.3g} ({ends})  {row['peer']}: {row['work']}", flush=True)
        if why:
            failed = True
            print(f"{name}: {why}", file=sys.stderr, flush=True)
    PAGE.write_text(page(read()), "utf-8")
    print(f"{RESULTS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
