"""Tables on a terminal of 40, 80 and 120 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bothways.cli.show import print_grid
from bothways.tasks.work import Grid

LONG = Grid(
    ("run", "judge", "recognised (95 %)", "Frechet", "kernel (95 %)", "diversity"),
    [
        ("", "cifar10-attention", "-", "", "0.0123 (0.0045 to 0.0201)", "5.2 (6.1)"),
        ("", "cifar10-resnet*", "-", "", "0.0456 (0.0312 to 0.0600)", "4.9 (6.0)"),
    ],
    caption="* gave the gradient: proves nothing. In brackets: real pictures.",
)
SHORT = Grid(("depth", "consistency (95 %)"), [("0.5", "9.25"), ("12.25", "-"), ("3", "10.50")], "highest first")


def printed(grid: Grid, width: int) -> str:
    page = io.StringIO()
    print_grid(grid, Console(file=page, width=width, legacy_windows=False))
    return page.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("grid", [LONG, SHORT], ids=["wide", "narrow"])
def test_no_word_is_broken_and_no_line_is_too_long(grid: Grid, width: int) -> None:
    page = printed(grid, width)
    rows = [row for row in grid.rows if any(text not in ("", "-") for text in row[1:])]
    held = [text for row in rows for text in row if text not in ("", "-")]
    for word in " ".join((*held, grid.title, grid.caption)).split():
        assert word in page.split() or f" {word} " in page.replace("\n", " ")
    assert max(map(len, page.splitlines())) <= width


def test_columns_and_rows_that_hold_nothing_are_left_out() -> None:
    page = printed(LONG, 120)
    assert "recognised" not in page
    assert "Frechet" not in page
    assert "kernel" in page
    assert "12.25" not in printed(SHORT, 80)
    assert printed(Grid(("a", "b"), [("x", "-")], "title"), 80) == ""


def test_a_table_that_is_too_wide_is_a_block_a_row() -> None:
    lines = printed(LONG, 40).splitlines()
    place = next(k for k, line in enumerate(lines) if line.strip().startswith("judge"))
    assert lines[place].split() == ["judge", "cifar10-attention"]
    assert "0.0123 (0.0045 to 0.0201)" in " ".join(lines[place : place + 3])


def test_a_number_in_a_name_stays_with_its_unit() -> None:
    page = printed(Grid(("run", "accuracy (95 %)"), [("x", "0.50 (0.09-0.91)")]), 80)
    assert "(95\u00a0%)" in page


def test_numbers_are_aligned_at_their_ends() -> None:
    lines = [line for line in printed(SHORT, 80).splitlines() if "9.25" in line or "10.50" in line]
    assert len({line.index(end) + len(end) for line, end in zip(lines, ("9.25", "10.50"), strict=True)}) == 1
