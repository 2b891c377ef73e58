"""Pieces of a task's section: a part with its charts and table, cells of intervals, and strips of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.report.axes import is_number
from bothways.report.charts import Chart
from bothways.report.tables import MISSING, Cell, Table, name, significant

STRIP_HEIGHT, STRIP_WIDTH = 96, 1100  # CSS pixels: of a row of states, at most

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One thing that was measured: its title, what a newcomer needs to read it, its charts, and its table if any."""

    title: str
    note: str
    charts: Sequence[Chart]
    table: Table | None = None


def strip_size(width: int, height: int) -> tuple[int, int]:
    """How large a row of states is shown, in CSS pixels: enlarged by a whole factor, or shrunk to the page."""
    scale = min(max(1, STRIP_HEIGHT // height), STRIP_WIDTH / width)
    return round(width * scale), round(height * scale)


def depth_labels(depths: Sequence[Any]) -> list[str]:
    """What stands above the states of a row, which may lead there and back."""
    known = [d for d in depths if isinstance(d, (int, float))]
    names = ["picture" if depth == 0 else "noise" if depth == 1 else f"{depth:g}" for depth in known]
    return [*names[:-1], "back"] if len(names) > 1 and names[0] == names[-1] else names


def between(low: Any, high: Any) -> Cell:
    """2.51–2.63."""
    if not (is_number(low) and is_number(high)):
        return Cell(MISSING, kind="missing")
    return Cell(f"{significant(low)}–{significant(high)}", f"{low} to {high}", kind="number")


def walk_cell(facts: Facts, remark: str = "") -> Cell:
    """The solver and the steps by which something was measured."""
    steps = facts.get("steps")
    words = [str(facts.get("solver") or ""), f"{steps:,} steps" if steps else ""]
    return name(", ".join(filter(None, words)) or MISSING, remark)
