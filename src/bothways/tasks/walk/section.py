"""The report section of ``walk``: measures["walk"], every part of which may be missing.

"depths":  [K], of the pictures of one direction
"lost":    rms error of the round trip
"nearest": [[{"file", "distance"}] of each depth]
"called_there", "called_back": [[[class, probability]] of each depth], of a classifier
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.axes import is_number
from bothways.report.parts import Facts
from bothways.report.sections import Run
from bothways.report.tables import MISSING, Cell, Table, cost_of, name, number, percent, time
from bothways.tasks.walk.result import WalkMeasures

schema = WalkMeasures

work = "walking"
CALLED = (("called_there", "Predicted there"), ("called_back", "Predicted back"))


def facts_of(measures: Facts) -> Facts | None:
    """The walk of a run; None if there is none."""
    facts = measures.get("walk")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for other runs."""
    facts = facts_of(measures)
    return None if facts is None else {"strips": [], "depths": [], "numbers": numbers_table(facts), "parts": []}


def sentence_of(run: Run) -> str:
    """Describe a run: "A picture walked to noise and back with runs/digits"."""
    return f"A picture walked to noise and back with {run.model or 'a flow'}"


def numbers_table(facts: Facts) -> Table:
    """A row per depth: predicted classes there and back, and the distance of the nearest picture."""
    shown = [(key, title) for key, title in CALLED if facts.get(key)]
    near = any(facts.get("nearest") or [])
    rows = []
    for place, depth in enumerate(facts.get("depths") or []):
        cells = [_called(facts[key], place) for key, _ in shown]
        cells += [_distance(facts["nearest"], place)] if near else []
        rows.append([name(f"{depth:.3g}" if is_number(depth) else MISSING), *cells])
    columns = ["Depth", *(title for _, title in shown), *(["Nearest picture"] if near else [])]
    lost = number(facts.get("lost")).text
    note = f"Depth 0 is the picture, 1 is noise. Round-trip error: {lost} (rms, values in [0, 1])."
    return Table("The walk in numbers", columns, rows, note)


def _called(calls: Sequence[Any], place: int) -> Cell:
    if place >= len(calls) or not calls[place]:
        return Cell(MISSING, kind="missing")
    called, share = calls[place][0]
    return name(called, percent(share).text)


def _distance(nearest: Sequence[Any], place: int) -> Cell:
    row = nearest[place] if place < len(nearest) else []
    return number(row[0].get("distance") if row else None)


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per walk. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        steps = len(facts.get("depths") or []) - 1
        cells = [number(steps if steps > 0 else None), number(facts.get("lost"))]
        rows.append([name(label), *cells, time(cost_of(measures, status).get("seconds"))])
    note = "Error: the rms difference of the picture before and after the round trip, for values in [0, 1]."
    return Table("Side by side", ["Run", "Steps each way", "Error", "Time"], rows, note)
