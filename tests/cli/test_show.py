"""Progress: bars on a terminal, lines now and then elsewhere."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import bothways
from bothways.cli import show
from bothways.progress import Ledger, Stage, Timed, listening, stage
from command import run
from held_work import wait

GENERATE = ("generate", "bundled:cifar10-plain", "--class", "frog", "--n", "1", "--steps", "2")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log() -> Iterator[tuple[show.Log, Clock, io.StringIO]]:
    """A listening log with its clock and what it wrote."""
    clock, out = Clock(), io.StringIO()
    with listening(show.Log("generate", Console(file=out, width=40), clock)) as made:
        assert isinstance(made, show.Log)
        yield made, clock, out


def test_a_log_tells_the_start_the_way_and_the_end(log) -> None:
    own, clock, out = log
    with stage("drawing", total=6) as drawing:
        for step in range(4):
            clock.now += 5
            drawing.advance(values={"loss": 1 / (step + 1)})
            if step % 2:
                own.beat()
    own.finish()
    assert out.getvalue().splitlines() == [
        "drawing, 0 of 6",
        "drawing, 2 of 6, 20 s left  loss 0.5",
        "drawing, 4 of 6, 10 s left  loss 0.25",
        "generate: finished in 20 s",
    ]


def test_a_log_goes_on_in_a_stage_that_counts_nothing(log) -> None:
    own, clock, out = log
    with stage("preparing"), stage("fitting"):
        clock.now += 10
        own.beat()
        clock.now += 10
        own.beat()
    clock.now += 10
    own.beat()  # between two stages
    assert out.getvalue().splitlines() == ["still: fitting, 10 s", "still: fitting, 20 s", "still: generate, 30 s"]


def test_a_log_tells_of_a_step_that_takes_long(log) -> None:
    own, clock, out = log
    with stage("measuring", total=3) as measuring:
        measuring.advance()
        own.beat()
        with stage("reading pictures", total=500) as reading:
            clock.now += 10
            reading.advance(50)
            own.beat()
            clock.now += 10
            own.beat()
    assert out.getvalue().splitlines()[2:] == [
        "measuring, 1 of 3; reading pictures, 50 of 500, 90 s left",
        "measuring, 1 of 3; still: reading pictures, 50 of 500, 20 s",
    ]


def test_time_left_counts_what_an_earlier_run_made(log) -> None:
    own, clock, out = log
    with stage("drawing", total=10, done=4) as drawing:
        own.beat()
        clock.now += 10
        drawing.advance()
        own.beat()
    assert out.getvalue().splitlines() == [
        "drawing, 4 of 10",
        "still: drawing, 4 of 10, 0 s",
        "drawing, 5 of 10, 50 s left",
    ]


def test_time_left_weighs_steps_that_take_longer(log) -> None:
    own, clock, out = log
    with stage("evaluating", total=6, done=2) as evaluating:
        evaluating.weights = [1, 1, 2, 10]
        own.beat()
        clock.now += 10
        evaluating.advance(2)
        own.beat()
        clock.now += 10
        evaluating.advance()
        own.beat()
    told = [line for line in out.getvalue().splitlines() if "left" in line]
    assert told == ["evaluating, 4 of 6, 60 s left", "evaluating, 5 of 6, 50 s left"]


def test_the_preparation_of_a_run_says_nothing_by_itself(log) -> None:
    with stage("preparing"), stage("reading pictures", total=5) as reading:
        reading.advance()
    assert log[2].getvalue() == ""


def test_lines_come_by_themselves_while_nothing_is_counted() -> None:
    out, seen = io.StringIO(), threading.Event()
    to = Console(file=out, width=120)
    to.file = _Watched(out, seen)
    with show.progress_shown("statistics", to, seconds=0.01), stage("fitting"):
        assert seen.wait(30)
    assert "still: fitting, 0 s\n" in out.getvalue()  # a first line may come before the stage begins
    assert out.getvalue().endswith("statistics: finished in 0 s\n")


class _Watched(io.StringIO):
    """A file that says when a line of the stage was written."""

    def __init__(self, to: io.StringIO, seen: threading.Event) -> None:
        super().__init__()
        self._to, self._seen = to, seen

    def write(self, text: str) -> int:
        written = self._to.write(text)
        if "fitting" in text:
            self._seen.set()
        return written


# ---- a terminal ----------------------------------------------------------------------------------------------------

NAMED = Stage("reading pictures", 50_000, 12_000, values={"log probability": -2.034, "total variation": -0.00051})


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40])
def test_a_bar_keeps_name_steps_and_time_left_at_every_width(width: int) -> None:
    line = show.bar_line(Timed(NAMED, 75.0), width).plain
    assert len(line) <= width
    assert "12000/50000" in line
    assert "3:58 left" in line
    assert line.startswith("reading pict")


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "reading pictures  12000/50000  1:15  3:58 left  log probability -2.03"),
        (60, "reading pictures  12000/50000  1:15  3:58 left"),
        (45, "reading pictures  12000/50000  3:58 left"),
        (30, "read..  12000/50000  3:58 left"),
    ],
)
def test_the_bar_goes_first_then_values_then_the_time_so_far(width: int, line: str) -> None:
    assert show.bar_line(Timed(NAMED, 75.0), width).plain == line


def test_a_wide_terminal_has_a_bar_in_proportion() -> None:
    line = show.bar_line(Timed(NAMED, 75.0), 200).plain
    assert (line.count("#"), line.split("  ")[1].count(".")) == (10, 30)  # 24 %
    assert line.endswith("log probability -2.03  total variation -0.00051")


def test_what_has_no_steps_has_its_name_and_time() -> None:
    assert show.bar_line(Timed(Stage("preparing"), 3675.0), 40).plain == "preparing  1:01:15"


def test_a_terminal_has_bars_and_a_file_has_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, forced = Terminal(), io.StringIO()
    with show.progress_shown("generate", Console(file=out, width=120)), stage("drawing", total=2) as drawing:
        drawing.advance()
        assert wait(lambda: "drawing" in out.getvalue() and "1/2" in out.getvalue())  # drawn by another thread
    assert "\x1b[" in out.getvalue()
    to = Console(file=forced, width=120, force_terminal=True)  # as FORCE_COLOR has it
    with show.progress_shown("generate", to), stage("drawing", total=2):
        pass
    assert forced.getvalue() == "drawing, 0 of 2\ngenerate: finished in 0 s\n"


def test_a_long_stage_leaves_a_line_on_a_terminal() -> None:
    clock, out = Clock(), Terminal()
    with listening(show.Bars(Console(file=out, width=60), clock)):
        with stage("preparing"):
            clock.now += 0.5
        with stage("drawing", total=2) as drawing, stage("reading pictures", total=3):
            drawing.advance(2)
            clock.now += 5
    assert out.getvalue().rstrip() == "drawing  ####################  2/2  0:05  0:00 left"


# ---- the command ---------------------------------------------------------------------------------------------------


def test_a_command_in_a_file_tells_start_and_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GENERATE, "--out", tmp_path / "a") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "drawing, 0 of 2"
    assert out.splitlines()[1].startswith("generate: finished in ")
    assert "\x1b" not in out + err


def test_json_is_alone_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GENERATE, "--out", tmp_path / "a", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["cost"]["seconds"] > 0
    assert err.splitlines()[0] == "drawing, 0 of 2"
    assert run(*GENERATE, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert out.startswith("{")
    assert "drawing" not in err


def test_python_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bothways.generate("bundled:cifar10-plain", "frog", n=1, steps=2, out=tmp_path / "a")
    assert capsys.readouterr() == ("", "")


def test_without_a_listener_a_stage_is_nothing() -> None:
    ledger = Ledger()
    with stage("drawing", total=2) as drawing:
        drawing.advance()
    assert (ledger.seconds, ledger.shown()) == ({}, [])
