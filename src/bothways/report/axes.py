"""Building blocks of curve and bar charts: traces, axes and intervals from rows with possibly missing numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.charts import ACCENT, ASIDE, base_layout

HEIGHT = 260
AXIS: dict[str, Any] = {"nticks": 6}
SHADE = "; the shade is the 95 % interval"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (not a boolean)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def complete_rows(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """The rows with a finite number for each of the keys."""
    return [row for row in rows if all(is_number(row.get(key)) for key in keys)]


def curve_trace(x: Sequence[float], y: Sequence[float], hover: str, **more: Any) -> dict[str, Any]:
    """A Plotly line trace, with markers for up to 30 points."""
    mode = "lines" if len(x) > 30 else "lines+markers"
    return {"type": "scatter", "mode": mode, "x": list(x), "y": list(y), "hovertemplate": hover, **more}


def axes_layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout with these axis titles."""
    axes = {"xaxis": {**AXIS, "title": {"text": x}}, "yaxis": {**AXIS, "title": {"text": y}}}
    return base_layout(HEIGHT, **{**axes, **more})


def interval_band(rows: Sequence[Mapping[str, Any]], over: str = "depth") -> list[dict[str, Any]]:
    """The 95 % intervals of rows as a filled area over one of their keys; [] if they are missing."""
    rows = complete_rows(rows, over, "low", "high")
    x, low, high = ([row[key] for row in rows] for key in (over, "low", "high"))
    shape = {"type": "scatter", "mode": "lines", "x": [*x, *x[::-1]], "y": [*high, *low[::-1]], "fill": "toself"}
    fill = {"fillcolor": f"rgba({ACCENT},0.18)", "line": {"width": 0}, "hoverinfo": "skip"}
    return [{**shape, **fill}] if rows else []


def whiskers(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The 95 % intervals of proportions as Plotly error bars, in percent; zero for rows without one."""

    def reach(row: Mapping[str, Any], key: str) -> float:
        return 100 * abs(row[key] - row["value"]) if is_number(row.get(key)) else 0.0

    up, down = ([reach(row, key) for row in rows] for key in ("high", "low"))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 4}


def line_across(height: float) -> dict[str, Any]:
    """A dotted horizontal line for a reference value."""
    line = {"color": f"rgb({ASIDE})", "width": 1.2, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height, "line": line}
