"""What a command shows: lines, a progress bar, a table of verdicts, a page."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

console = Console()
errors = Console(stderr=True)


def say(text: str) -> None:
    """One line as it is: a path in it is neither broken nor read as markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    errors.print(text, highlight=False, markup=False, soft_wrap=True)


def draw(drawing: Any, title: str = "drawing") -> Any:
    """Run a drawing with a progress bar, then ask the judges."""
    from bothways.tasks.generate.run import conclude

    with closing(drawing.run()) as steps:
        follow((frame for _, frame in steps), drawing.settings.steps * len(drawing.batches()), title)
    return conclude(drawing)


SECONDS_BETWEEN_LINES = 10.0  # of a log, where there is no terminal to draw a bar on


def follow(frames: Iterable[Any], total: int, title: str, done: int = 0, to: Console = console) -> None:
    """Progress with time left and the last measured values: a bar on a terminal, elsewhere a line now and then."""
    if not to.is_terminal:
        _log(frames, total, title, done, to)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[values]}"), console=to) as bar:
        task = bar.add_task(title, total=total, completed=done, values="")
        for frame in frames:
            bar.update(task, advance=1, values=_values(frame))


def _log(frames: Iterable[Any], total: int, title: str, done: int, to: Console) -> None:
    began, last, made = time.monotonic(), time.monotonic(), 0
    for frame in frames:
        made, now = made + 1, time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            left = (now - began) / made * max(0, total - done - made)
            line = f"{title}: {done + made} of {total}, {left:.0f} s left  {_values(frame)}"
            to.print(line, highlight=False, markup=False, soft_wrap=True)


def _values(frame: Any) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in frame.stats.items())


def write_page(runs: list[Path], out: Path) -> Path:
    from bothways.report import write_report

    return write_report(runs, out)


def show_verdicts(measures: dict[str, dict[str, Any]]) -> None:
    forms = ("%.1f", "(%.1f)")
    caption = "* gave the gradient: proves nothing. In brackets: as many real pictures."
    table = Table("run", Column("judge", overflow="fold"), "recognised (95 %)", "Frechet", "diversity", caption=caption)
    for run, measured in measures.items():
        for verdict in measured["judges"]:
            low, high = verdict["hit_interval"]
            rate = "-" if verdict["hit_rate"] is None else f"{verdict['hit_rate']:.2f} ({low:.2f}-{high:.2f})"
            name = verdict["judge"].removeprefix("bundled:") + "*" * verdict["gave_gradient"]
            pairs = [(verdict[key], verdict[f"{key}_real"]) for key in ("frechet", "diversity")]
            shown = [" ".join(f % v for f, v in zip(forms, p, strict=True) if v is not None) for p in pairs]
            table.add_row(escape(run), escape(name), rate, *shown)
    console.print(table)


def show_scorecard(rows: list[dict[str, Any]]) -> None:
    """The quantities in short; the page has all of it."""
    caption = "Cosine with (clean - noisy); a quantity no better than the control points nowhere."
    table = Table("quantity", "Spearman", "noise .1", "noise .5", "blur", "cosine at .1", caption=caption)
    for row in rows:
        if row.get("absent"):
            table.add_row(escape(row["name"]), Text(row["absent"], overflow="ellipsis", no_wrap=True))
            continue
        far = [row["auroc"][key][0] for key in ("noise 0.1", "noise 0.5", "blur 1.5")]
        cosine = {float(level): found for level, found in row["cosine"].items()}  # a resumed row comes from JSON
        values = [row["spearman"][0], *far, cosine[0.1][0]]
        table.add_row(escape(row["name"]), *("-" if value is None else f"{value:.2f}" for value in values))
    console.print(table)
