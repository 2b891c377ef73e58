"""Run tables and figures of the papers, keep a line for each, and write docs/reproduced.md from the lines.

    python benchmarks/reproduced.py NAME [NAME ...] [--full] [--with NAME=ADDRESS ...] [--device cuda] [--out FOLDER]
    python benchmarks/reproduced.py all            # every small form
    python benchmarks/reproduced.py                # the page alone
    python benchmarks/reproduced.py NAME --results FILE     # the lines elsewhere; --take FILE brings them in

A line is a claim's table with its date, command and device. A table that is run again replaces its line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "reproduced.jsonl"
PAGE = ROOT / "docs" / "reproduced.md"
KEPT = ("name", "form", "paper", "claims", "failed")  # the rest is in the recipe
FORMS = ("small", "full")
MADE = "<!-- made by benchmarks/reproduced.py -->"
HEAD = """# The papers' tables and figures, run again

`bothways reproduce` runs a table or figure of the three papers and sets ours beside the paper's: [how](reproduce.md).
This page is written by `python benchmarks/reproduced.py` from `benchmarks/results/reproduced.jsonl`.

Ours: the mean over seeds with Student's 95 % interval over them; of one seed, with the interval of its own measure,
over pictures, if it has one. **Reproduced**: the whole interval bears the claim out. **Not reproduced**: all of it
speaks against. **Undecided**: between the two. **Not comparable**: the paper's number is of other data and networks, or
none is known here. Fewer than three seeds give no verdict, only whether they agree. Claims are judged one by one;
nothing is corrected for their number. Small forms are tiny trainings: what they decide holds for these alone.
"""


def read(path: Path = RESULTS) -> list[dict[str, Any]]:
    """The kept lines, in the order of papers, names and forms."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
    return in_order(rows)


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["paper"], row["name"], FORMS.index(row["form"])))


def keep(row: dict[str, Any], path: Path = RESULTS) -> None:
    """Put a line in the place of the one of the same table and form."""
    others = [one for one in read(path) if (one["name"], one["form"]) != (row["name"], row["form"])]
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in in_order([*others, row])), "utf-8")


def page(rows: Sequence[dict[str, Any]], absent: Sequence[dict[str, Any]] = ()) -> str:
    """The page. absent: tables and figures without a line: {"name", "title", "why"}."""
    verdicts = Counter(claim["verdict"] for row in rows for claim in row["claims"])
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    text = [HEAD, f"{len(rows)} tables and figures, {sum(verdicts.values())} claims: {counted}.\n"]
    for paper in dict.fromkeys(row["paper"] for row in rows):
        text.append(f"## {paper}\n\n{MADE}\n")
        text += [table(row) for row in rows if row["paper"] == paper]
    if absent:
        text.append(f"## Not run here\n\n{MADE}\n\n| name | what | why |\n|---|---|---|")
        text += [f"| `{one['name']}` | {one['title']} | {one['why']} |" for one in absent] + [""]
    return "\n".join(text)


def table(row: dict[str, Any]) -> str:
    """The part of the page of one table or figure."""
    from bothways.tasks.reproduce import recipe

    own = recipe.read(row["name"])
    unlike = own.form(row["form"]).unlike
    lines = [f"### {own.title}\n", f"`{row['command']}`: {own.where}."]
    lines += [f"Reading: {own.reading}."] if own.reading else []
    lines += [f"Beside the paper's: {unlike}."] if unlike else []
    lines.append(f"Run on {row['date']}, {row['device']}, version {row['version']}.\n")
    lines.append("| claim | ours (95 %) | the paper's | seeds | verdict |\n|---|---|---|---|---|")
    for one in row["claims"]:
        said = one["verdict"] not in ("not measured", "not comparable") or one["why"] == unlike
        why = "" if said else f": {one['why']}"  # what neither the verdict nor the lines above say
        lines.append(f"| {one['claim']} | {number(one)} | {one['claimed']} | {one['seeds']} | {one['verdict']}{why} |")
    return "\n".join(lines) + "\n"


def number(claim: dict[str, Any]) -> str:
    """Ours with its interval."""
    if claim["ours"] is None:
        return "-"
    low, high = claim["low"], claim["high"]
    return f"{claim['ours']:.3g}" + ("" if low is None or high is None else f" ({low:.3g} to {high:.3g})")


def absent_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tables and figures without a line, and why there is none."""
    from bothways.tasks.reproduce import recipe

    kept = {row["name"] for row in rows}
    found = []
    for name in recipe.names():
        if name not in kept:
            own = recipe.read(name)
            found.append({"name": name, "title": own.title, "why": own.small.absent or "not run yet"})
    return found


def run(name: str, form: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a table or figure: its line."""
    from bothways.tasks.shelf import work_of
    from bothways.tasks.work import perform
    from bothways.version import __version__

    settings: dict[str, Any] = {"full": form == "full", "inputs": options.inputs or []}
    settings |= {"device": options.device} if options.device else {}
    work = work_of("reproduce", name, out=options.out, **settings)
    found = perform(work)
    work.page(None)
    words = ["bothways reproduce", name, *(["--full"] if form == "full" else [])]
    words += [f"--device {options.device}"] if options.device else []
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(words),
        "device": options.device or "CPU, one thread",
        "version": __version__,
        **{key: found[key] for key in KEPT},
    }


def main(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="tables and figures, or all")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--with", dest="inputs", action="append", metavar="NAME=ADDRESS")
    parser.add_argument("--device")
    parser.add_argument("--out", default="runs/reproduce")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the lines")
    parser.add_argument("--take", type=Path, nargs="+", default=[], help="files whose lines are taken over")
    options = parser.parse_args(given)
    form = "full" if options.full else "small"
    if options.names:
        from bothways.tasks.reproduce import recipe

        names = options.names
        if names == ["all"]:
            names = [name for name in recipe.names() if not recipe.read(name).form(form).absent]
        for name in names:
            row = run(name, form, options)
            keep(row, options.results)
            for claim in row["claims"]:
                print(f"{name}: {claim['claim']}: {number(claim)}, {claim['verdict']}", flush=True)
            print(f"{name}: {row['failed']} failed", flush=True)
    for path in options.take:
        for row in read(path):
            keep(row)
    rows = read()
    PAGE.write_text(page(rows, absent_of(rows)), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
