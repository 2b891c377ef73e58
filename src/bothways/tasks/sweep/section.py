"""The report section of a sweep: measures["sweep"] (result.py), any part of which may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bothways.numerics.intervals import seeds_told
from bothways.report import swept
from bothways.report.parts import Facts, Part, between
from bothways.report.sections import Run
from bothways.report.tables import Cell, Table, cost_of, count, name, number, time
from bothways.tasks.sweep.result import SweepMeasures

schema = SweepMeasures

work = "sweep"
NOTE = (
    "Means over the runs that differ in the seed alone, with Student's 95 % interval over these runs, which counts the "
    "seeds and not the pictures (of accuracies, mAP and AUROC on the logit scale, inside 0 and 1); a single run, and "
    "equal accuracies of several, have the interval of a run's own measure, over pictures, if it has one."
)
CURVES = (
    "A curve for each combination of the settings that are not on the axis; the numbers are those of the table above."
)


def facts_of(measures: Facts) -> Facts:
    return measures.get("sweep") or {}


def sentence_of(run: Run) -> str:
    """Describe a sweep: "6 runs of bothways finetune over beta and seed"."""
    settings = run.recipe.get("settings") or {}
    over = settings.get("over") or {}
    runs = len(facts_of(run.measures).get("runs") or [])
    several = f"{runs} runs" if runs else "A sweep"
    return f"{several} of bothways {settings.get('task')} over {' and '.join(over) or 'nothing'}"


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None before the sweep has ended."""
    facts = facts_of(measures)
    if not facts:
        return None
    groups = facts.get("groups") or []
    charts = swept.charts(groups)
    parts = [Part("Over the swept settings", CURVES, charts)] if charts else []
    return {"strips": [], "depths": [], "numbers": groups_table(groups), "parts": parts}


def groups_table(groups: Sequence[Facts]) -> Table:
    """A row per combination of settings, the seed apart."""
    places, titles = _keys(groups, "settings"), _keys(groups, "numbers")
    rows = [
        [
            *(_value(group["settings"].get(place)) for place in places),
            *(cell for title in titles for cell in _cells(group["numbers"].get(title))),
            count(group.get("n")),
            name(group.get("over") or ""),
        ]
        for group in groups
    ]
    heads = [head for title in titles for head in (title, "95 % interval")]
    seeds = f": {seeds_told([group.get('n') or 1 for group in groups])}" if groups else ""
    return Table(f"The sweep in numbers{seeds}", [*places, *heads, "Runs", "Interval over"], rows, NOTE)


def tables_of(measures: Facts) -> list[Table]:
    """The table of the single runs."""
    runs = facts_of(measures).get("runs") or []
    places, titles = _keys(runs, "settings"), _keys(runs, "numbers")
    rows = [
        [
            name(run.get("folder")),
            name(run.get("state"), run.get("message") or ""),
            *(_value(run["settings"].get(place)) for place in places),
            *(number((run.get("numbers") or {}).get(title, {}).get("value")) for title in titles),
        ]
        for run in runs
    ]
    note = "Each is a run folder in that of the sweep, with a report of its own."
    return [Table("The runs", ["Run", "State", *places, *titles], rows, note)] if rows else []


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per sweep. runs: (name, measures, status)."""
    rows = [
        [name(label), count(len(facts_of(measures).get("runs") or [])), time(cost_of(measures, status).get("seconds"))]
        for label, measures, status in runs
    ]
    return Table("Side by side", ["Sweep", "Runs", "Time"], rows)


def _keys(rows: Sequence[Facts], key: str) -> list[str]:
    return list(dict.fromkeys(one for row in rows for one in row.get(key) or {}))


def _value(value: Any) -> Cell:
    return name("unset" if value is None else f"{value:g}" if isinstance(value, float) else value)


def _cells(found: Facts | None) -> list[Cell]:
    found = found or {}
    return [number(found.get("value")), between(found.get("low"), found.get("high"))]
