"""The figures of benchmarks/torture and the page that is made of them, docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "torture.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
Row = Mapping[str, Any]


def read() -> list[dict[str, Any]]:
    """The figures, a row a line."""
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.is_file() else []


def record(rows: Iterable[Row]) -> None:
    """Keep figures in place of earlier ones of the same part, kind and name, and write the page anew."""
    kept = {_key(row): dict(row) for row in [*read(), *rows]}
    RESULTS.write_text("".join(f"{json.dumps(row)}\n" for _, row in sorted(kept.items())), "utf-8")
    PAGE.write_text(page(read()), "utf-8")


def _key(row: Row) -> tuple[str, str, str]:
    return row["part"], row["kind"], row["name"]


# ---- the page --------------------------------------------------------------------------------------------------------

INTRO = """# Reliability

What a kill, a broken disk, a damaged file, a crowd of clients and a change of machine do to bothways. The figures are
those of `make torture`, which writes this page; the tests try a few of each. Nothing here was left out because it
failed.

## Kills and broken disks

A command is cut off at one of its own writes, renames, removals and steps, spread over its whole life; a write at
that point leaves half of what it was given. Then it goes on with `--resume` (a command of one file is typed again).
"Broken" counts trials after which a file under its own name was not whole, an error was not one line, a temporary
file stayed, or anything that the run wrote differs from a run that was left alone: bytes, and of JSON all but times
and memory. On one CPU, float32.
"""
KINDS = {
    "kill": "SIGKILL",
    "full": "from here on no room",
    "input-output": "one write fails",
    "read-only": "from here on nothing can be written",
    "slow": "slow writes",
    "clock": "the clock jumps",
    "two": "two processes, one folder",
    "small-disk": "a small tmpfs",
    "read-only-disk": "a read-only tmpfs",
}
AFTER_KILLS = """
A cell is trials, and after a comma how many were broken; a dash was not tried. "Points" are the writes and steps of
an uninterrupted run at the tiny settings of `tests/killed.py`. Of two processes that are told to write one folder,
the second is refused by a lock, which a dead process does not hold. A
kill loses what came after the last checkpoint, which the run then makes again.
`pretrain-two` is a training by two processes of which one is killed, `rows` a training that unpacks its pictures into a
cache, `serve` a drawing of the service, `export`, `plan`, `report`, `spectrum` and `statistics` write files and no run.
`predict`, `models`, `layers`, `recipes`, `registry` and `cite` write nothing.

## Numbers that are not finite

The step is checked, not the end: a loss before its gradient, every gradient before the step, every weight after it;
the values of a walk after each solver step, the field of a drawing before it moves a picture, the outputs of a model
and the features of a flow with each batch. A run ends as "failed" with exit code 1 and one line that names the step,
the tensor (`the gradient of head.weight is not finite at step 3`) and what is kept (`the checkpoint of step 2 is kept
in ...`). Pictures, weights and facts that are not finite are refused when they are read, by file and tensor.

## No memory left

`generate`, `features`, `evaluate`, `likelihood`, `sample` and the judges take half as many pictures at once whenever
an allocation fails, say so in a note, and go on; a drawing begins the batch again that failed. Identical means: the
same pictures, draws and order, so the same bits wherever the kernels of the network add alike for fewer pictures, and
otherwise the same to the rounding of the number format (the column "other batch" below). Pictures that share a
statistic (`--group`) and a drawing by several processes are not divided: they end with a line that says what fits. An
adaptive solver (`--solver dopri5`) chooses its steps for a batch as a whole, so that there the tolerance bounds the
difference.

A step of `pretrain`, `finetune` or `train` for which an allocation fails is made again in twice as many equal parts, as
`--accumulate` does it, and so are the later ones: the same bits as a training that began with so many parts, and the
same as one in a single part but for rounding. Dropout draws others then, and the note in `measures.json` and on the
page says so. A resumed run goes on in as many parts. A network that normalises over a batch (BatchNorm in training) is
not divided, since its step would be another one, and neither is a training by several processes, which average each
part together: they end with a line.

## Damaged files and hostile names
"""
INPUTS = {
    "pictures": "encoded pictures: cut, changed, of a false size or kind",
    "weights": "safetensors: other types, shapes, headers, values that are not finite",
    "tables": "parquet files: other columns, types, nulls, features",
    "recipes": "recipes: another value, a key less, torn, a pipe, a device, a folder, 3 TB",
    "cards": "`flow.json`: the same",
    "runs": "any file of a run folder: the same; nothing is written outside the folder",
    "hubs": "a file of a folder of transformers, timm or diffusers: the same, sizes too large, weights as a pickle",
    "models": "a user's function that raises, leaves, or returns something else",
    "anything": "arguments of every public function: good ones among numbers, texts, tensors and objects of any kind",
    "names": "paths with line breaks, markup, NUL, 300 characters, bytes that are no UTF-8",
}
AFTER_INPUTS = """
Each is read in a child process with limits on time and memory. A result or one line is well; a hang, a traceback or
unbounded memory is broken. A user's file that hangs is waited for: the progress says `still: running my.py:build, 20
s`, and Ctrl-C ends it.

## What changes a result

Each task once by one thread, in float32, and again with one thing changed. A cell is the largest absolute difference
of any number that the run wrote: pixels in 1/255, features, measures, weights. "Not one to one" marks runs whose
numbers cannot be set beside each other.
"""
CHANGES = {
    "again": "the same again",
    "batch": "other batch",
    "threads": "2 threads",
    "workers": "2 workers",
    "processes": "2 processes",
    "resume": "killed, resumed",
    "moved": "killed, resumed by 2 processes",
    "bf16": "bfloat16",
}
PROMISE = """
**What is promised.** On one machine, with one version of torch and one number of threads: the same settings and seed
give the same bits, whatever the number of loading workers, and wherever a run was killed and resumed. A
picture's draws are a function of its own seed, so that another batch size changes nothing but the rounding of the
network's kernels. Other threads, several processes, another machine or another torch add in another order: the same
to rounding, which a training or a long drawing then amplifies. bfloat16 is another number format, of three decimal
digits: it is not meant to agree.
"""
STUDIO = """
## The studio under abuse

One studio, by `benchmarks/torture/studio.py`, clients and server on the same two cores; numbers before a colon are HTTP
status codes. That no markup in any field runs as a script, and that no page of another site can ask for anything, is
tried in a browser by `tests/studio`.
"""
SERVICE = """
## The service under load

`bothways serve bundled:cifar10-resnet` with PNGs of 32 pixels and one thread, by `benchmarks/torture/serve.py`, clients
and service on the same two cores, which other work shared. "Times the bare call": of what the model alone takes for one
picture of each client, in batches of up to 32, measured the same minute. Run: `python benchmarks/torture/serve.py`,
{date}.
"""
SUPPLY = """
## What is installed

`make wheel` builds the wheel twice and stops where the two differ in a byte. `release/check.py` installs it in a new
environment without extras, with each alone and with all of them, lets pip check what stands together, and draws;
`release/bounds.py` runs a part of the tests with the lowest versions that are allowed and with the newest. The licences
of all that may be installed stand in [licences.md](licences.md); `make sbom` lists what is; a workflow asks each week
what is known to be vulnerable.
"""


def page(rows: Sequence[Row]) -> str:
    """The text of docs/reliability.md."""
    crash = [row for row in rows if row["part"] == "crash"]
    inputs = {row["name"]: row for row in rows if row["part"] == "inputs"}
    matrix = [row for row in rows if row["part"] == "determinism"]
    parts = [INTRO, _crashes(crash), AFTER_KILLS, _inputs(inputs), AFTER_INPUTS, _matrix(matrix), PROMISE]
    dated = SERVICE.replace("{date}", max((row["date"] for row in rows if row["part"] == "service"), default=""))
    parts += [STUDIO, _answers(rows, "studio"), dated, _answers(rows, "service"), SUPPLY, _environments(rows)]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _crashes(rows: Sequence[Row]) -> str:
    by = {(row["name"], row["kind"]): row for row in rows}
    names = sorted({row["name"] for row in rows})
    lines = [[f"`{name}`", f"{max(r['points'] for r in rows if r['name'] == name):,}"]
             + [_trials(by.get((name, kind))) for kind in KINDS] for name in names]  # fmt: skip
    tried = [sum(row["tried"] for row in rows if row["kind"] == kind) for kind in KINDS]
    broken = [sum(row["broken"] for row in rows if row["kind"] == kind) for kind in KINDS]
    whole = [["all", "", *(f"{count:,}, {bad}" if count else "-" for count, bad in zip(tried, broken, strict=True))]]
    return table(["command", "points", *KINDS.values()], lines + whole)


def _trials(row: Row | None) -> str:
    return "-" if row is None else f"{row['tried']}, {row['broken']}"


def _inputs(rows: Mapping[str, Row]) -> str:
    lines = [
        [told, *(f"{rows[name][key]:,}" for key in ("tried", "result", "line", "broken"))]
        for name, told in INPUTS.items()
        if name in rows
    ]
    mended = [f"{row['mended']} of the {name}" for name, row in rows.items() if row.get("mended")]
    told = (
        f"\n{', '.join(mended)} broke or ran out of time, were mended, and then read again alone.\n" if mended else ""
    )
    return table(["what", "files", "a result", "one line", "broken"], lines) + told


def _matrix(rows: Sequence[Row]) -> str:
    lines = [[f"`{row['name']}`", *(told_of(row.get(change)) for change in CHANGES)] for row in rows]
    return table(["task", *CHANGES.values()], lines)


def _answers(rows: Sequence[Row], part: str) -> str:
    """What was sent, how often, and how it was answered."""
    lines = [(row["sent"], f"{row['tried']:,}", _well(row)) for row in rows if row["part"] == part]
    return table(["sent", "how many", "answered"], lines)


def _environments(rows: Sequence[Row]) -> str:
    lines = [(f"`{row['name']}`", f"{row['tried']:,}", _well(row)) for row in rows if row["part"] == "supply"]
    return table(["environment", "commands", "found"], lines)


def _well(row: Row) -> str:
    return f"{'**broken**: ' if row['broken'] else ''}{row['answered']}"


def told_of(value: float | None) -> str:
    if value is None:
        return "-"
    return "not one to one" if value < 0 else "equal" if value == 0 else f"{value:.1e}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
