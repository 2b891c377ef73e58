"""Output of a command: lines, tables, the progress of its stages, reports."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bothways.brief import CONTROLS, escaped
from bothways.progress import Ledger, Stage, Timed, every, listening
from bothways.reading import as_text

if TYPE_CHECKING:  # a help page waits for no torch
    from bothways.tasks.work import Grid

console = Console()
errors = Console(stderr=True)

SECONDS_BETWEEN_LINES = 10.0  # of the log that replaces the bar without a terminal
SECONDS_WORTH_A_LINE = 1.0  # a finished stage that took less leaves no line on a terminal
LONGEST_BAR, SHORTEST_BAR = 40, 10
GAP = "  "


def printable(text: str) -> str:
    r"""A line with its control characters written out, such as \x1b and \n: names of files and classes can hold any."""
    return escaped(as_text(text))


def printable_json(text: str) -> str:
    """JSON in which those that JSON lets stand are written out too."""
    return CONTROLS.sub(lambda one: one[0] if one[0] == "\n" else f"\\u{ord(one[0]):04x}", text)


def say(text: str, to: Console = console) -> None:
    """Print a line as it is, but for control characters: no markup, no wrapping, so that paths stay whole."""
    to.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def print_error(text: str) -> None:
    say(text, errors)


@contextmanager
def progress_shown(
    title: str, to: Console = console, *, quiet: bool = False, seconds: float | None = None
) -> Iterator[None]:
    """The context in which the stages of this thread are shown: by a bar on a terminal, else by a line now and then.

    title: of the command. quiet: show nothing. seconds: between two lines of the log; None for 10.
    """
    if quiet:
        yield
    elif to.is_interactive and to.file.isatty():  # FORCE_COLOR makes a file no terminal
        bars = Bars(to)
        with Live(console=to, get_renderable=bars.text, transient=True, redirect_stderr=False), listening(bars):
            yield
    else:
        log = Log(title, to)
        with listening(log), every(seconds or SECONDS_BETWEEN_LINES, log.beat):
            yield
        log.finish()


class Log(Ledger):
    """The progress of a command as plain lines: one at the first step, one at every beat, and one at the end."""

    def __init__(self, title: str, to: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._title, self._to, self._began = title, to, clock()
        self._before: dict[Stage, int] = {}  # the steps of each stage at the last beat
        self._said = False

    def begin(self, stage: Stage) -> None:
        """Say a line for the first stage that counts steps and is within no other: that of the run itself."""
        if not self._said and stage.total and not self.unfinished():
            self._said = True
            say(str(Timed(stage, 0.0)), self._to)
        super().begin(stage)

    def beat(self) -> None:
        """Say what is being done. "still" marks a stage that has made no step since the last beat."""
        shown = self.shown()
        lines = [*map(str, shown[:-1]), *(self._innermost(one) for one in shown[-1:])]
        self._before = {one.stage: one.stage.done for one in shown}
        say("; ".join(lines) or f"still: {self._title}, {self.clock() - self._began:.0f} s", self._to)

    def _innermost(self, of: Timed) -> str:
        stage = of.stage
        if stage.done == self._before.get(stage, stage.first):
            return f"still: {of}, {of.seconds:.0f} s"
        left = "" if of.left is None else f", {of.left:.0f} s left"
        return GAP.join([f"{of}{left}", *_values(stage)])

    def finish(self) -> None:
        say(f"{self._title}: finished in {self.clock() - self._began:.0f} s", self._to)


def _values(stage: Stage) -> list[str]:
    return [f"{name} {value:.3g}" for name, value in stage.values.items()]


class Bars(Ledger):
    """The progress of a command on a terminal: a bar for each stage that tells something, drawn anew all the time."""

    def __init__(self, to: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._to = to

    def end(self, stage: Stage) -> None:
        """Leave a line for the outermost stage that is shown, if it took long."""
        shown = self.shown()
        super().end(stage)
        if shown and shown[0].stage is stage and shown[0].seconds >= SECONDS_WORTH_A_LINE:
            self._to.print(bar_line(shown[0], self._to.width))

    def text(self) -> Text:
        shown = self.shown()
        return Text("\n").join(bar_line(one, self._to.width) for one in [*shown[:1], *shown[1:][-1:]])


def bar_line(of: Timed, width: int) -> Text:
    """A stage in one line of a terminal: its name, a bar, steps, time so far, time left and the last values.

    Where the width is too small, first the bar is left out, then values, then the time so far, and the name is cut.
    """
    stage = of.stage
    steps = [f"{stage.done}/{stage.total}"] if stage.total else []
    left = [] if of.left is None else [f"{_clock(of.left)} left"]
    needed = sum(len(GAP + part) for part in (*steps, *left))
    name = _cut(printable(stage.name), width - needed)
    room = width - len(name) - needed
    further = [_clock(of.seconds), *_values(stage)]
    taken = _fitting(further, room)
    room -= sum(len(GAP + part) for part in taken) + len(GAP)
    line = Text(name, no_wrap=True, overflow="crop")
    if stage.total and room >= SHORTEST_BAR and taken == further:
        line.append(GAP)
        long = min(room - room % SHORTEST_BAR, LONGEST_BAR)  # in steps, so that values of other widths do not move it
        full = round(long * min(1.0, stage.done / stage.total))
        line.append("#" * full, "green").append("." * (long - full), "dim")
    for part in (*steps, *taken[:1], *left, *taken[1:]):
        line.append(GAP + part)
    return line


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else name[: max(1, room - 2)] + ".."


def _fitting(parts: Sequence[str], room: int) -> list[str]:
    """The first parts that fit in the room, a gap before each."""
    taken: list[str] = []
    for part in parts:
        room -= len(GAP + part)
        if room < 0:
            break
        taken.append(part)
    return taken


def _clock(seconds: float) -> str:
    """Format a time: 75 -> 1:15, 3675 -> 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


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
    columns, rows = [printable(name) for name in columns], [[printable(text) for text in row] for row in rows]
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
    for line in _wrapped(printable(text), to.width):
        to.print(line, style="italic", highlight=False, markup=False, soft_wrap=True)
