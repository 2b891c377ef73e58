"""Progress: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from bothways.cli import show
from bothways.types import Frame


def frames(clock: list[float], seconds: float, count: int) -> Iterator[Frame]:
    for step in range(1, count + 1):
        clock[0] += seconds
        yield Frame(step, step / count, None, {"loss": 1 / step})


def followed(monkeypatch: pytest.MonkeyPatch, seconds: float, *, terminal: bool, done: int = 0) -> list[str]:
    """The lines of six frames that take so long each, ``done`` made before them."""
    clock, out = [100.0], io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    monkeypatch.setattr(show.time, "monotonic", lambda: clock[0])
    show.follow(frames(clock, seconds, 6), 6 + done, "walking", done, console)
    return out.getvalue().splitlines()


def test_a_log_has_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = followed(monkeypatch, 5.0, terminal=False)
    assert lines == [
        "walking: 2 of 6, 20 s left  loss 0.5",
        "walking: 4 of 6, 10 s left  loss 0.25",
        "walking: 6 of 6, 0 s left  loss 0.167",
    ]
    assert len(followed(monkeypatch, 60.0, terminal=False)) == 6


def test_time_left_counts_what_an_earlier_run_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, 10.0, terminal=False, done=4)[0] == "walking: 5 of 10, 50 s left  loss 1"


def test_what_is_short_has_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, 1.0, terminal=False) == []


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown = "\n".join(followed(monkeypatch, 0.0, terminal=True))
    assert "walking" in shown
    assert "6/6" in shown
