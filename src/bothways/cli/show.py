"""Output of a command: lines, tables, progress, reports."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:  # a help page waits for no torch
    from bothways.tasks.work import Grid

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


# ---- tables: only what holds something, and no word broken where the terminal is narrow ----

NOTHING = ("", "-")  # the text of a cell that holds nothing
NUMBER = re.compile(r"[−+-]?\.?\d")
BORDER = 3  # characters of a column around its text; one more ends the table


def print_grid(grid: Grid, to: Console) -> None:
    """Print a table, or a block for each row where the table is wider than the terminal."""
    columns, rows = held(grid)
    columns = [name.replace(" %", "\u00a0%") for name in columns]  # a number stays with its unit
    if not rows:
        return
    if grid.title:
        _lines(grid.title, to)
    widths = [_width(name, [row[place] for row in rows]) for place, name in enumerate(columns)]
    if sum(widths) + BORDER * len(widths) + 1 <= to.width:
        to.print(_table(columns, rows, widths))
    else:
        for line in _blocks(columns, rows, to.width):
            to.print(line, highlight=False, markup=False, soft_wrap=True)
    if grid.caption:
        _lines(grid.caption, to)


def held(grid: Grid) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a table that hold something; the first column holds names and stays."""
    rows = [row for row in grid.rows if len(row) < 2 or any(text not in NOTHING for text in row[1:])]
    kept = [k for k in range(len(grid.columns)) if k == 0 or any(row[k] not in NOTHING for row in rows)]
    return [grid.columns[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _width(name: str, texts: Sequence[str]) -> int:
    """The width of a column: its texts stay on one line, its name may be broken between words."""
    return max(map(cell_len, (*texts, *name.split(" "))), default=0)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    table = Table()
    for place, (name, width) in enumerate(zip(columns, widths, strict=True)):
        numbers = all(NUMBER.match(row[place]) or row[place] in NOTHING for row in rows)
        table.add_column(escape("\n".join(_wrapped(name, width))), justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """A block a row: its name, then a line for each further column that holds something."""
    longest = max(map(cell_len, columns[1:]), default=0)
    for row in rows:
        yield row[0]
        for name, text in zip(columns[1:], row[1:], strict=True):
            if text in NOTHING:
                continue
            head = "  " + (name + " " * (longest - cell_len(name)) + "  " if name else "")
            if cell_len(head) + cell_len(text) <= width:
                yield head + text
            else:
                yield from ([f"  {name}"] if name else [])
                yield from (f"    {line}" for line in _wrapped(text, width - 4))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False) or [""]


def _lines(text: str, to: Console) -> None:
    for line in _wrapped(text, to.width):
        to.print(line, style="italic", highlight=False, markup=False, soft_wrap=True)
