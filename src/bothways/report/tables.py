"""Tables of the report: number formatting, cells, and tables with notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bothways.runs.files import dotted

MISSING = "not measured"
GAVE_GRADIENT = "gave the gradient: proves nothing"


@dataclass(frozen=True)
class Cell:
    """A table cell: displayed text, full value for CSV, and a remark."""

    text: str
    value: Any = None
    remark: str = ""
    kind: str = ""  # "name", "number", "missing" or "differs": the CSS class

    @property
    def csv(self) -> str:
        if self.kind == "missing":
            return ""
        return (self.text if self.value is None else str(self.value)) + (f" ({self.remark})" if self.remark else "")


@dataclass(frozen=True)
class Table:
    """A table of the page. columns: one name per cell of a row. note: an explanation below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def name(text: Any, remark: str = "") -> Cell:
    return Cell(str(text), None, remark, "name")


def _measured(value: Any, write: Callable[[float], str]) -> Cell:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return Cell(MISSING, kind="missing")
    return Cell(write(value), value, kind="number")


def significant(value: float, digits: int = 3) -> str:
    """Format to significant digits: 0.91234 -> 0.912, 9.1 -> 9.10, 12345.6 -> 12,346, 3e-7 -> 3.00e-07."""
    if value == 0:
        return "0"
    if value < 0:
        return "−" + significant(-value, digits)
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def duration(seconds: float) -> str:
    """Format a duration: 0.61 -> 0.61 s, 75 -> 1 min 15 s, 7300 -> 2 h 02 min."""
    if seconds < 60:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: Any) -> Cell:
    return _measured(value, significant)


def count(value: Any) -> Cell:
    return _measured(value, lambda n: f"{n:,.0f}")


def percent(value: Any) -> Cell:
    return _measured(value, lambda share: f"{100 * share:.1f} %")


def time(value: Any) -> Cell:
    return _measured(value, duration)


def memory(value: Any) -> Cell:
    return _measured(value, lambda mb: f"{mb:,.0f} MB" if mb < 10_000 else f"{mb / 1000:,.1f} GB")


def interval(bounds: Any) -> Cell:
    """The cell of an interval of proportions: [0.8, 0.95] -> 80.0–95.0 %."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or None in bounds:
        return Cell(MISSING, kind="missing")
    low, high = bounds
    return Cell(f"{100 * low:.1f}–{100 * high:.1f} %", f"{low} to {high}", kind="number")


def cost_of(measures: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds and peak memory from the measures, else from the status of the run."""
    known = {key: status.get(key) or None for key in ("seconds", "peak_mb")}
    return {**known, **{key: value for key, value in (measures.get("cost") or {}).items() if value is not None}}


def cost_table(measures: Mapping[str, Any], status: Mapping[str, Any], work: str = "drawing") -> Table:
    """The table of time and memory; only drawings have a time per picture."""
    cost = cost_of(measures, status)
    cells = {"Time": time(cost.get("seconds"))}
    cells |= {} if work != "drawing" else {"Per picture": time(cost.get("seconds_per_picture"))}
    cells |= {"Peak memory": memory(cost.get("peak_mb"))}
    note = f"Wall-clock time of the whole {work}, models and data included, and peak memory, on the machine of the run."
    return Table("Time and memory", list(cells), [list(cells.values())], note)


def held(table: Table) -> Table:
    """The table without the columns and rows in which nothing was measured; the first column holds names and stays."""

    def empty(cells: Iterable[Cell]) -> bool:
        return all(cell.kind == "missing" or not (cell.text or cell.remark) for cell in cells)

    rows = [row for row in table.rows if len(row) < 2 or not empty(row[1:])]
    kept = [place for place in range(len(table.columns)) if place == 0 or not empty(row[place] for row in rows)]
    return replace(
        table, columns=[table.columns[place] for place in kept], rows=[[row[place] for place in kept] for row in rows]
    )


def stages_table(measures: Mapping[str, Any], status: Mapping[str, Any]) -> Table | None:
    """The table of the time of each stage, the longest first; None for a run that does not say."""
    stages = (measures.get("cost") or {}).get("stages") or status.get("stages") or {}
    longest = sorted(stages.items(), key=lambda stage: -stage[1])
    rows = [[name(stage), time(seconds)] for stage, seconds in [*longest, ("together", sum(stages.values()))]]
    return Table("Time by stage", ["Stage", "Time"], rows) if stages else None


def in_columns(table: Table) -> Table:
    """Transpose a table: a column per run instead of a row, so that many measures fit the page."""
    rows = [
        [name(title), *(row[place] for row in table.rows)] for place, title in enumerate(table.columns[1:], start=1)
    ]
    return replace(table, columns=["", *(row[0].text for row in table.rows)], rows=rows)


def settings_tables(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Table]:
    """A table for each table of recipe.toml, with a column per run; differing settings are marked."""
    titles = {"settings": "Settings", "model": "Model", "versions": "Versions"}
    groups: dict[str, list[dict[str, Any]]] = {}
    for place, (_, recipe) in enumerate(runs):
        loose = {key: value for key, value in recipe.items() if not isinstance(value, Mapping)}
        tables = {key: value for key, value in recipe.items() if isinstance(value, Mapping)}
        if loose:
            tables["settings"] = loose | dict(tables.get("settings", {}))
        for title, table in tables.items():
            groups.setdefault(title, [{} for _ in runs])[place] = dotted(table)
    order = sorted(groups, key=lambda key: list(titles).index(key) if key in titles else len(titles))
    return [
        _settings_table(titles.get(key, key.capitalize()), [label for label, _ in runs], groups[key]) for key in order
    ]


def _settings_table(title: str, labels: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for key in dict.fromkeys(key for column in columns for key in column):
        texts = ["not set" if key not in column else _setting(column[key]) for column in columns]
        differs = "differs" if len(set(texts)) > 1 else ""
        rows.append([name(key), *(Cell(text, kind=differs) for text in texts)])
    note = "Values in bold differ between the runs." if len(labels) > 1 and any(r[1].kind for r in rows) else ""
    return Table(title, ["", *labels], rows, note)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
