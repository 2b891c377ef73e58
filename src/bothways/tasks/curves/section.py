"""The report section of ``curves``: measures["curves"] (result.py), any part of which may be missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bothways.report.axes import (
    SHADE,
    axes_layout,
    complete_rows,
    curve_trace,
    interval_band,
    is_number,
)
from bothways.report.charts import ACCENT, Chart
from bothways.report.parts import Facts, Part
from bothways.report.sections import Run
from bothways.report.tables import Cell, Table, cost_of, count, interval, name, number, percent, time
from bothways.tasks.curves.result import CurvesMeasures

schema = CurvesMeasures

work = "evaluation"
NOTE = (
    "Wilson's 95 % intervals over pictures. All points use the same pictures, or an evenly spaced subset of them, so "
    "differences between points are more certain than their intervals suggest. NLL: the mean of -log p of the true "
    "class, in nats. Network calls: per picture."
)


def facts_of(measures: Facts) -> Facts | None:
    """The curves of a run; None if there are none."""
    facts = measures.get("curves")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run without curves."""
    facts = facts_of(measures)
    if facts is None:
        return None
    parts = [part for part in (_over_steps(facts), _over_depth(facts)) if part is not None]
    return {"strips": [], "depths": [], "numbers": trained_table(facts), "parts": parts}


def sentence_of(run: Run) -> str:
    """Describe a run: "curves evaluated runs/digits at 7 numbers of steps and at 5 depths"."""
    facts = facts_of(run.measures) or {}
    steps, depths = len(facts.get("steps") or []), len(facts.get("depth") or [])
    words = [f"at {steps} numbers of steps"] * bool(steps) + [f"at {depths} depths"] * bool(depths)
    return f"{run.who} evaluated {run.model or 'a model'}" + (" " + " and ".join(words) if words else "")


# ---- the tables ----------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Cell:
    """The cell of a depth or number of steps, unrounded; empty if not used."""
    return Cell(f"{value:,.4g}", value, kind="number") if is_number(value) else name("")


def _moved(row: Facts) -> Cell:
    """The cell of a relative change of depth: -0.2 -> -20 %."""
    offset = row.get("offset")
    return Cell(_signed(offset), offset, kind="number") if is_number(offset) else name("")


def _signed(offset: Any) -> str:
    return f"{100 * offset:+.4g} %".replace("-", "−") if offset else "0 %"


def _scores(row: Facts) -> list[Cell]:
    bounds = interval([row.get("low"), row.get("high")])
    return [percent(row.get("value")), bounds, number(row.get("nll")), count(row.get("n")), count(row.get("calls"))]


def _points(title: str, rows: Sequence[Facts], places: Mapping[str, str], note: str = "") -> Table:
    """A row per point. places: {key: title} of the columns of its setting; those that no row has are dropped."""
    shown = {key: column for key, column in places.items() if any(is_number(row.get(key)) for row in rows)}
    lines = []
    for row in rows:
        where = [_moved(row) if key == "offset" else _plain(row.get(key)) for key in shown]
        lines.append([*where, *_scores(row), name("trained setting" if row.get("trained") else "")])
    columns = [*shown.values(), "Accuracy", "95 % interval", "NLL", "Pictures", "Network calls", ""]
    return Table(title, columns, lines, note)


PLACES = {"steps": "Steps", "depth": "Depth", "activation_depth": "Depth of activations"}


def trained_table(facts: Facts) -> Table:
    """The table of the trained setting."""
    skipped = facts.get("skipped") or {}
    left_out = f" Skipped unreadable pictures: {len(skipped)}." if skipped else ""
    rows = [row for row in [facts.get("trained")] if row]
    return _points("The classifier at its trained setting", rows, PLACES, NOTE + left_out)


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per classifier, a column per point of any of them. runs: (name, measures, status)."""
    found = [(label, facts_of(measures) or {}, cost_of(measures, status)) for label, measures, status in runs]
    steps = sorted({row["steps"] for _, facts, _ in found for row in complete_rows(facts.get("steps") or [], "steps")})
    moved = sorted(
        {row["offset"] for _, facts, _ in found for row in complete_rows(facts.get("depth") or [], "offset")}
    )
    lines = []
    for label, facts, cost in found:
        trained = facts.get("trained") or {}
        by_steps = {row.get("steps"): row.get("value") for row in facts.get("steps") or []}
        by_depth = {row.get("offset"): row.get("value") for row in facts.get("depth") or []}
        cells = [percent(trained.get("value")), interval([trained.get("low"), trained.get("high")])]
        cells += [percent(by_steps.get(n)) for n in steps] + [percent(by_depth.get(offset)) for offset in moved]
        lines.append([name(label), *cells, time(cost.get("seconds"))])
    columns = ["Run", "Trained setting", "95 % interval", *(f"{n:,} steps" for n in steps)]
    note = "Accuracy at the trained setting, for other numbers of steps, and for relative changes of the depth."
    return Table("Side by side", [*columns, *(f"depth {_signed(o)}" for o in moved), "Time"], lines, note)


# ---- the parts -----------------------------------------------------------------------------------------------------


def _over_steps(facts: Facts) -> Part | None:
    rows = facts.get("steps") or []
    found = complete_rows(rows, "steps", "value")
    if not found:
        return None
    title, axis = "Accuracy over the steps of the walk", "steps of the walk"
    chart = _chart(title, axis, found, "steps", "%{x:,} steps", "{:,}".format, log=True)
    note = f"The walk goes to the depth it was trained at, by {facts.get('solver') or 'its solver'} in other steps."
    if own := facts.get("trained_solver"):
        note += f" It was trained with {own}, whose accuracy is in the first table."
    return Part("Other numbers of steps", note, [chart], _points("Accuracy by steps", rows, PLACES))


def _over_depth(facts: Facts) -> Part | None:
    rows = facts.get("depth") or []
    found = complete_rows(rows, "offset", "value")
    if not found:
        return None
    title, axis = "Accuracy over the depth", "depth, relative to that of training"
    chart = _chart(title, axis, found, "offset", "depth %{x:+.0%}", _signed)
    note = (
        "The trained depth is changed by a percentage, at most to 1 (noise). What does not change, the steps among it, "
        "stands in every row of the table."
    )
    return Part("Other depths", note, [chart], _points("Accuracy by depth", rows, {"offset": "Change", **PLACES}))


def _chart(
    title: str, axis: str, rows: Sequence[Facts], over: str, hover: str, tick: Callable[[Any], str], log: bool = False
) -> Chart:
    """The accuracies in percent with their band, and a dotted line where the classifier was trained.

    over: the key whose values stand on the axis, each with a tick of its own; log: whether that axis is logarithmic.
    """
    layout = axes_layout(axis, "accuracy, %")
    ticks = [row[over] for row in rows]
    layout["xaxis"] |= {"tickvals": ticks, "ticktext": list(map(tick, ticks))} | ({"type": "log"} if log else {})
    shown = [
        {**row, **{key: 100 * row[key] for key in ("value", "low", "high") if is_number(row.get(key))}} for row in rows
    ]
    x, y = [row[over] for row in shown], [row["value"] for row in shown]
    curve = curve_trace(x, y, f"{hover}<br>%{{y:.1f}} %<extra></extra>", mode="lines+markers")
    band = interval_band(shown, over)
    words = f"From {min(y):.1f} to {max(y):.1f} %{SHADE if band else ''}"
    if own := [row for row in shown if row.get("trained")]:
        line = {"color": f"rgba({ACCENT},0.6)", "width": 1.2, "dash": "dot"}
        where = own[0][over]
        at = math.log10(where) if log else where  # of a shape on a log axis: the value; of a note: its logarithm
        layout["shapes"] = [{"type": "line", "yref": "paper", "x0": where, "x1": where, "y0": 0, "y1": 1, "line": line}]
        label = {"x": at, "y": 1, "yref": "paper", "yanchor": "bottom", "text": "trained", "showarrow": False}
        layout["annotations"] = [label]
        layout["margin"] = {"t": 24}
        words += f"; the dotted line is the trained setting, {own[0]['value']:.1f} %"
    return Chart(title, {"data": [*band, curve], "layout": layout}, words + ".")
