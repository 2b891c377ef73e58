"""Output of a command: lines, and the progress of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bothways.progress import Ledger, Stage, Timed, every, listening

console = Console()
errors = Console(stderr=True)

SECONDS_BETWEEN_LINES = 10.0  # of the log that replaces the bar without a terminal
SECONDS_WORTH_A_LINE = 1.0  # a finished stage that took less leaves no line on a terminal
LONGEST_BAR, SHORTEST_BAR = 40, 10
GAP = "  "


def say(text: str, to: Console = console) -> None:
    """Print a line verbatim: no markup, no wrapping, so that paths stay whole."""
    to.print(text, highlight=False, markup=False, soft_wrap=True)


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
    name = _cut(stage.name, width - needed)
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
