"""docs/benchmarks.md, made of benchmarks/results/peers.csv and of nothing else."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "peers.csv"
PAGE = ROOT / "docs" / "benchmarks.md"
BUSY = 0.5  # processes that wanted a core in the minute before
Row = Mapping[str, str]

MADE = "<!-- made by benchmarks/peers/page.py -->"  # of every section, since each holds figures
INTRO = f"""# Beside other libraries

{MADE}

The same work on the same model and data, done by a library that one would otherwise take and by `bothways`, in turns by
one process with one thread. `make bench` installs each library into an environment of its own
(`benchmarks/peers/environments.py`), measures, and writes `benchmarks/results/peers.csv` and this page.

A time is the median CPU time of a run. The ratio is ours / theirs, the median over pairs of runs, with its 95 %
interval; below 1 is faster. Rows are in the order of their ratio, so that where a library is faster than `bothways`
stands first. An interval that holds 1 shows no difference, and not that there is none: of nine pairs it may be wide.
"Differ" is how far the two results are apart, and the most that is allowed: a run of `make bench` in
which a row is beyond it fails.
"""
STARTS = f"""
## What starts

{MADE}

Each library as `pip` installs it by its own requirements, beside the torch of `constraints.txt`.
"""


def read(file: Path = RESULTS) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def page(rows: Sequence[Row]) -> str:
    """The page of the rows of the results file."""
    works = sorted((row for row in rows if row["kind"] == "work"), key=lambda row: -float(row["ratio"]))
    return "".join([INTRO, *(f"\n{line}" for line in stamps(rows)), "\n", *measured(works), STARTS, *started(rows)])


def stamps(rows: Iterable[Row]) -> list[str]:
    """A line for each date and machine."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in ("date", "python", "torch", "bothways", "device")), []).append(row)
    return [
        f"Measured by `make bench` on {date} with CPython {python}, torch {torch}, bothways {ours}, on {device}; "
        f"{machine([float(row['load']) for row in some])}."
        for (date, python, torch, ours, device), some in found.items()
    ]


def machine(loads: Sequence[float]) -> str:
    """Whether others used the machine, from the load before each group."""
    # its own work stands in the load from the second group on
    high = max(loads)
    return f"a busy machine (load {high:.1f})" if high > 1 + BUSY else "a quiet machine"


def measured(works: Sequence[Row]) -> list[str]:
    """A section for each outcome."""
    sections = (
        ("Where a library is faster", [row for row in works if faster(row) == "theirs"]),
        ("Where no difference is shown", [row for row in works if faster(row) == "neither"]),
        ("Where bothways is faster", [row for row in works if faster(row) == "ours"]),
    )
    return [f"\n## {title}\n\n{MADE}\n\n{table(some) if some else 'No row.'}\n" for title, some in sections]


def faster(row: Row) -> str:
    """Which of the two is: neither where the interval holds 1."""
    low, high = float(row["low"]), float(row["high"])
    return "theirs" if low > 1 else "ours" if high < 1 else "neither"


def table(rows: Iterable[Row]) -> str:
    lines = ["| library | work | theirs, ms | ours, ms | ratio | differ |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (
            f"{row['peer']} {row['version']}", row["work"], number(row["theirs_ms"]), number(row["ours_ms"]),
            f"{float(row['ratio']):.2f} ({float(row['low']):.2f}–{float(row['high']):.2f})", agreement(row),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(text: str) -> str:
    """Three digits, without an exponent."""
    value = float(text)
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def agreement(row: Row) -> str:
    if not row["tolerance"]:
        return "other pictures; compared in [measured.md](measured.md#efficientnet-lite0-at-224-px-by-photographs)"
    apart = "0" if float(row["difference"]) == 0 else f"{float(row['difference']):.0e}"
    return f"{row['of']}: {apart}, at most {float(row['tolerance']):.0e}" + (f"; {row['note']}" if row["note"] else "")


def started(rows: Iterable[Row]) -> list[str]:
    lines = ["\n| library | as installed | starts with |", "|---|---|---|"]
    for row in rows:
        if row["kind"] == "start":
            plain, needs = row["error"] or "starts", row["never"] or row["with"] or "-"
            lines.append(f"| {row['peer']} {row['version']} | {plain} | {needs} |")
    return ["\n".join(lines), "\n"]
