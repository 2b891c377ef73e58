"""The report section of ``features``: measures["features"], every part of which may be missing.

    "flow":     its address
    "data":     {"address", "pictures": {split: n}}
    "columns":  [{"column", "kind", "depth", "layer", "steps", "size"}], steps: of the solver to the depth
    "calls":    of the network per picture
    "files":    {split: file of the run folder}
    "probes":   [{"probe", "column", "kind", "depth", "layer", "steps", "n", ...share, "l2" or "neighbours"}]
    "unprobed": why there are no probes
    "chance":   {"n", ...share}: of always predicting the most frequent training class
    "skipped":  {split: {unreadable picture: reason}}

A share is {"value", "low", "high"}, the ends those of its 95 % Wilson interval. tasks/features/extraction.py writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.axes import AXIS, is_number, line_across, whiskers
from bothways.report.charts import ACCENT, Chart, base_layout
from bothways.report.parts import Facts, Part
from bothways.report.sections import measured as sentence_of
from bothways.report.tables import Cell, Table, cost_of, count, interval, name, number, percent, time
from bothways.tasks.features.result import FeatureMeasures

__all__ = ["comparison_table", "facts_of", "schema", "section", "sentence_of", "work"]

schema = FeatureMeasures

work = "measuring"
CURVES = (ACCENT, "47,111,187", "200,96,24", "140,84,170")  # RGB of the kinds and layers in turn
PIXELS, SKIPPED_NAMED = "pixels", 8
NOTE = (
    "Each probe is fitted on the training pictures and evaluated once on the test pictures. The baseline is the same "
    "probe on raw pixels; chance is always predicting the most frequent training class. "
)


def facts_of(measures: Facts) -> Facts | None:
    """The features of a run; None if there are none."""
    facts = measures.get("features")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run without features."""
    facts = facts_of(measures)
    if facts is None:
        return None
    charts = [chart for probe in probes_of(facts) if (chart := _curves(facts, probe)) is not None]
    note = "Depth 0 is the picture, 1 is noise. Error bars are 95 % intervals; the dotted line is the pixel baseline."
    parts = [Part("Probe accuracy by depth", note, charts, columns_table(facts))] if charts else []
    if not charts:
        parts = [Part("The columns", str(facts.get("unprobed") or ""), [], columns_table(facts))]
    return {"strips": [], "depths": [], "numbers": numbers_table(facts), "parts": parts}


def probes_of(facts: Facts) -> list[str]:
    """The names of the probes."""
    return list(dict.fromkeys(str(row.get("probe")) for row in facts.get("probes") or []))


# ---- the tables ----------------------------------------------------------------------------------------------------


def numbers_table(facts: Facts) -> Table:
    """A row per column and probe; chance last."""
    rows = []
    for row in facts.get("probes") or []:
        remark = f"{row['neighbours']} neighbours" if "neighbours" in row else ""
        remark = f"l2 {row['l2']:g}" if is_number(row.get("l2")) else remark
        cells = [percent(row.get("value")), interval([row.get("low"), row.get("high")]), count(row.get("n"))]
        rows.append([name(row.get("column"), _control(row)), name(row.get("probe"), remark), *cells])
    if chance := facts.get("chance"):
        ends = interval([chance.get("low"), chance.get("high")])
        rows.append([name("chance"), name(""), percent(chance.get("value")), ends, count(chance.get("n"))])
    columns = ["Features", "Probe", "Accuracy", "95 % interval", "Test pictures"]
    note = (NOTE if rows else str(facts.get("unprobed") or "")) + _left_out(facts)
    return Table("The features in numbers", columns, rows, note.strip())


def columns_table(facts: Facts) -> Table:
    """The table of the columns of the files."""
    rows = [
        [
            name(row.get("column")),
            name(row.get("kind")),
            number(row.get("depth")) if is_number(row.get("depth")) else name(""),
            name(row.get("layer") or ""),
            count(row.get("steps")) if is_number(row.get("steps")) else name(""),
            count(row.get("size")),
        ]
        for row in facts.get("columns") or []
    ]
    files = ", ".join(
        f"{file} ({pictures:,} pictures)"
        for file, pictures in zip(
            (facts.get("files") or {}).values(),
            ((facts.get("data") or {}).get("pictures") or {}).values(),
            strict=False,
        )
    )
    calls = facts.get("calls")
    note = f"In {files}." + (f" The network is called {calls} times per picture." if is_number(calls) else "")
    return Table("The columns", ["Column", "Kind", "Depth", "Layer", "Steps", "Numbers"], rows, note)


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """The best column of each run and probe by test accuracy, next to the pixel baseline."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        spent = time(cost_of(measures, status).get("seconds"))
        for probe in probes_of(facts) or [""]:
            found = [r for r in facts.get("probes") or [] if r.get("probe") == probe and is_number(r.get("value"))]
            best: Facts = max((r for r in found if r.get("kind") != PIXELS), key=lambda r: r["value"], default={})
            pixels: Facts = next((r for r in found if r.get("kind") == PIXELS), {})
            cells: list[Cell] = [percent(best.get("value")), interval([best.get("low"), best.get("high")])]
            shown = [name(label), name(probe), name(best.get("column") or ""), *cells, percent(pixels.get("value"))]
            rows.append([*shown, spent])
    note = "The best column is selected on the same test pictures, so its accuracy is slightly optimistic."
    return Table("Side by side", ["Run", "Probe", "Best", "Accuracy", "95 % interval", "Pixels", "Time"], rows, note)


def _control(row: Facts) -> str:
    return "control" if row.get("kind") == PIXELS else ""


def _left_out(facts: Facts) -> str:
    skipped = [each for split in (facts.get("skipped") or {}).values() for each in split]
    if not skipped:
        return ""
    named = ", ".join(skipped[:SKIPPED_NAMED]) + (", ..." if len(skipped) > SKIPPED_NAMED else "")
    return f"Skipped unreadable pictures: {len(skipped)} ({named})."


# ---- the chart -----------------------------------------------------------------------------------------------------


def _curves(facts: Facts, probe: str) -> Chart | None:
    """Accuracy over depth of a probe: a curve per kind and layer, with intervals, and a line for the pixels."""
    rows = [r for r in facts.get("probes") or [] if r.get("probe") == probe and is_number(r.get("value"))]
    curves: dict[str, list[Facts]] = {}
    for row in rows:
        if is_number(row.get("depth")):
            key = f"{row.get('kind')} {row.get('layer') or ''}".strip()
            curves.setdefault(key, []).append(row)
    if not curves:
        return None
    traces = [
        _curve(key, sorted(found, key=lambda row: row["depth"]), CURVES[place % len(CURVES)])
        for place, (key, found) in enumerate(curves.items())
    ]
    layout = base_layout(
        300,
        xaxis={**AXIS, "title": {"text": "depth"}, "range": [0, 1.03]},
        yaxis={**AXIS, "title": {"text": "accuracy, %"}, "rangemode": "tozero"},
    )
    layout |= {"showlegend": len(curves) > 1, "legend": {"orientation": "h", "y": 1.12}}
    every = [row for found in curves.values() for row in found]
    best = max(every, key=lambda row: row["value"])
    words = f"Best at depth {best['depth']:g}, {best['kind']} ({100 * best['value']:.1f} %)"
    pixels = next((row["value"] for row in rows if row.get("kind") == PIXELS), None)
    if pixels is not None:
        layout["shapes"] = [line_across(100 * pixels)]
        words += f"; the dotted line is raw pixels, {100 * pixels:.1f} %"
    return Chart(f"{probe}: accuracy by depth", {"data": traces, "layout": layout}, words + ".", coloured=True)


def _curve(label: str, rows: Sequence[Facts], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label,
        "x": [row["depth"] for row in rows],
        "y": [100 * row["value"] for row in rows],
        "error_y": whiskers(rows),
        "line": {"color": f"rgb({colour})"},
        "marker": {"color": f"rgb({colour})"},
        "hovertemplate": f"{label}<br>depth %{{x}}<br>%{{y:.1f}} %<extra></extra>",
    }
