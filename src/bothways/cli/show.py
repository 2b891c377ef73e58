"""Output of a command: lines, progress, reports."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console()
errors = Console(stderr=True)


def say(text: str) -> None:
    """Print a line verbatim: no markup, no wrapping, so that paths stay whole."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_error(text: str) -> None:
    errors.print(text, highlight=False, markup=False, soft_wrap=True)


SECONDS_BETWEEN_LINES = 10.0  # of the log that replaces the progress bar without a terminal


def follow(frames: Iterable[Any], total: int, title: str, done: int = 0, to: Console = console) -> None:
    """Iterate over frames, showing progress, time left and current values: a bar on a terminal, else log lines."""
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
