"""docs/reliability.md says what benchmarks/results/torture.jsonl holds, and nothing there is broken."""

from __future__ import annotations

from reliability import PAGE, page, read, told_of


def test_the_page_is_made_of_the_figures() -> None:
    assert PAGE.read_text("utf-8") == page(read())


def test_nothing_was_broken() -> None:
    rows = read()
    assert {row["part"] for row in rows} == {"crash", "inputs", "determinism", "studio", "service", "supply"}
    assert [row for row in rows if row.get("broken")] == []


def test_a_figure_that_changes_changes_the_page() -> None:
    rows = read()
    for k, row in enumerate(rows):
        key = "again" if row["part"] == "determinism" else "tried"
        other = [*rows[:k], {**row, key: row[key] + 1}, *rows[k + 1 :]]
        assert page(other) != page(rows)


def test_differences_are_told_apart() -> None:
    assert [told_of(value) for value in (None, 0.0, -1.0, 3e-7)] == ["-", "equal", "not one to one", "3.0e-07"]
