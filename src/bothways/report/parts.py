"""Pieces of a task's report section: parts with charts and tables, cells, and strips of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.report.axes import is_number
from bothways.report.charts import Chart
from bothways.report.tables import MISSING, Cell, Table, name, significant

STRIP_HEIGHT, STRIP_WIDTH = 96, 1100  # maximum size of a strip in CSS pixels

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One measurement: its title, an explanation, its charts, and an optional table."""

    title: str
    note: str
    charts: Sequence[Chart]
    table: Table | None = None


def strip_size(width: int, height: int) -> tuple[int, int]:
    """The displayed size of a strip in CSS pixels: enlarged by a whole factor, or shrunk to fit the page."""
    scale = min(max(1, STRIP_HEIGHT // height), STRIP_WIDTH / width)
    return round(width * scale), round(height * scale)


def depth_labels(depths: Sequence[Any]) -> list[str]:
    """The labels above the states of a strip, which may lead to noise and back."""
    known = [d for d in depths if isinstance(d, (int, float))]
    names = ["picture" if depth == 0 else "noise" if depth == 1 else f"{depth:g}" for depth in known]
    return [*names[:-1], "back"] if len(names) > 1 and names[0] == names[-1] else names


def between(low: Any, high: Any) -> Cell:
    """The cell of an interval, such as 2.51–2.63."""
    if not (is_number(low) and is_number(high)):
        return Cell(MISSING, kind="missing")
    return Cell(f"{significant(low)}–{significant(high)}", f"{low} to {high}", kind="number")


def walk_cell(facts: Facts, remark: str = "") -> Cell:
    """The cell of the solver and number of steps of a measurement."""
    steps = facts.get("steps")
    words = [str(facts.get("solver") or ""), f"{steps:,} steps" if steps else ""]
    return name(", ".join(filter(None, words)) or MISSING, remark)
