"""Charts of a sweep: each number over a swept setting, a curve for every combination of the others.

A group is {"settings": {place: value}, "n", "over", "numbers": {title: {"value", "low", "high"}}}: the runs that differ
in the seed alone, and their means with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.axes import axes_layout, complete_rows, curve_trace, is_number
from bothways.report.charts import ACCENT, Chart
from bothways.report.compared import plain, spread, word_of
from bothways.report.parts import Facts
from bothways.report.tables import significant

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def charts(groups: Sequence[Facts]) -> list[Chart]:
    """A chart of each number of the groups; none for fewer than two groups."""
    titles = dict.fromkeys(title for group in groups for title in group.get("numbers") or {})
    return [chart for title in titles if (chart := _chart(title, groups)) is not None]


def axis_of(groups: Sequence[Facts]) -> str | None:
    """The setting on the axis: the first with several values that are all numbers, else the first with several."""
    values = {place: [group["settings"].get(place) for group in groups] for place in _places(groups)}
    several = [place for place, own in values.items() if len({repr(value) for value in own}) > 1]
    numeric = [place for place in several if all(map(is_number, values[place]))]
    return next(iter(numeric or several), None)


def _places(groups: Sequence[Facts]) -> list[str]:
    return list(dict.fromkeys(place for group in groups for place in group["settings"]))


def _chart(title: str, groups: Sequence[Facts]) -> Chart | None:
    axis = axis_of(groups)
    rows = [
        {**group["settings"], **((group.get("numbers") or {}).get(title) or {}), "group": group} for group in groups
    ]
    rows = [dict(row) for row in complete_rows(rows, "value")]
    if axis is None or len(rows) < 2:
        return None
    shown, settings, even = _placed(rows, axis)
    layout = axes_layout(f"{word_of(axis)}{even}", title.lower(), showlegend=False)
    layout["xaxis"] |= settings
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in shown:
        others = {place: value for place, value in row["group"]["settings"].items() if place != axis}
        curves.setdefault(", ".join(f"{word_of(p)} {_said(v)}" for p, v in others.items()), []).append(row)
    traces = [_curve(name, own, axis, place) for place, (name, own) in enumerate(curves.items())]
    if len(curves) > 1:
        layout |= {"showlegend": True, "legend": {"orientation": "h", "y": -0.3}, "height": layout["height"] + 60}
    worst, best = (pick(shown, key=lambda row: row["value"]) for pick in (min, max))
    ends = [f"{significant(row['value'])} at {word_of(axis)} {_said(row['at'])}" for row in (worst, best)]
    bars = "; bars are 95 % intervals" if complete_rows(shown, "low", "high") else ""
    return Chart(title, {"data": traces, "layout": layout}, f"From {ends[0]} to {ends[1]}{bars}.")


def _placed(rows: Sequence[dict[str, Any]], axis: str) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """The rows with their places on the axis, and the axis; values that are no numbers are evenly spaced, in order."""
    given = [{**row, "at": row["group"]["settings"].get(axis)} for row in rows]
    if all(is_number(row["at"]) for row in given):
        return spread(given)
    values = list(dict.fromkeys(_said(row["at"]) for row in given))
    ticks = {"tickvals": list(range(len(values))), "ticktext": values, "type": "linear"}
    return [{**row, "place": values.index(_said(row["at"]))} for row in given], ticks, ""


def _curve(name: str, rows: Sequence[Mapping[str, Any]], axis: str, place: int) -> dict[str, Any]:
    x, y = [row["place"] for row in rows], [row["value"] for row in rows]
    up, down = ([abs(row[key] - row["value"]) if is_number(row.get(key)) else 0.0 for row in rows] for key in ENDS)
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 4}
    colour = f"rgba({ACCENT},{1 - 0.6 * place / (place + 3):.2f})"
    hover = f"{name}<br>{word_of(axis)} %{{text}}<br>%{{y:.4g}}<extra></extra>".removeprefix("<br>")
    marks = {"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 7, "color": colour}
    look = {"line": {"color": colour, "dash": DASHES[place % len(DASHES)]}, "marker": marks, "error_y": bars}
    text = [_said(row["at"]) for row in rows]
    return {**curve_trace(x, y, hover, text=text, name=name, **look), "mode": "lines+markers"}


ENDS = ("high", "low")


def _said(value: Any) -> str:
    return plain(value) if is_number(value) else "unset" if value is None else str(value)
