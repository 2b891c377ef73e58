"""Comparison charts of classifiers: over the one numeric setting in which the runs differ, else bars.

A point is {"label", "settings", "shares": {title: {"value", "low", "high"}}, "loss", "before"}: the name of a run, its
settings, its accuracies with 95 % intervals, and the flow-matching loss of its flow after and before fine-tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bothways.report.axes import (
    AXIS,
    SHADE,
    axes_layout,
    complete_rows,
    curve_trace,
    interval_band,
    is_number,
    line_across,
    whiskers,
)
from bothways.report.charts import Chart, base_layout
from bothways.report.parts import Facts
from bothways.report.tables import significant

WIDE = 10  # ratio of the largest to the smallest positive value from which the axis is logarithmic
WHISKER = "93,102,110"  # RGB of error bars, visible on bars and on light and dark pages
TICKED = 8  # up to this many values have a tick each
LENGTH = "fit.steps"  # the length of a training
NAMED = {"steps": "steps of the walk", "activation_depth": "depth of the activations", LENGTH: "training steps"}
SEED = "seed"  # numeric, but not a setting to plot over


# ---- what is compared ----------------------------------------------------------------------------------------------


def choice_of(points: Sequence[Facts]) -> str | None:
    """The one numeric setting in which all points differ; None if there is none or they differ in others too.

    Training steps may differ along with the number of labels, since equal epochs need more steps.
    """
    keys = dict.fromkeys(key for point in points for key in point["settings"])
    differing = [key for key in keys if len({repr(point["settings"].get(key)) for point in points}) > 1]
    if "labels" in map(_last, differing):
        differing = [key for key in differing if key != LENGTH]
    if len(differing) != 1 or _last(differing[0]) == SEED:
        return None
    values = [point["settings"].get(differing[0]) for point in points]
    return differing[0] if all(map(is_number, values)) and len(set(values)) == len(values) else None


def charts(points: Sequence[Facts]) -> list[Chart]:
    """Accuracies and loss over the numeric setting in which the runs differ; else bars of accuracies."""
    choice, found = choice_of(points), []
    for title in dict.fromkeys(title for point in points for title in point["shares"]):
        rows = complete_rows([{**point, **(point["shares"].get(title) or {})} for point in points], "value")
        if len(rows) > 1:
            found.append(
                share_bars(title, rows) if choice is None else shares_over(title, _placed(rows, choice), choice)
            )
    rows = complete_rows(points, "loss")
    if choice is not None and len(rows) > 1:
        found.append(losses_over("Flow-matching loss on held-out pictures", _placed(rows, choice), choice))
    return found


def _placed(points: Sequence[Facts], choice: str) -> list[dict[str, Any]]:
    return [{**point, "at": point["settings"][choice]} for point in points]


# ---- the charts ----------------------------------------------------------------------------------------------------


def shares_over(title: str, rows: Sequence[Facts], choice: str) -> Chart:
    """Accuracies over a setting, with their intervals. rows: {"at", "value", "low", "high"}, proportions."""
    shown, axis, even = spread([{**row, **_percent(row)} for row in rows])
    layout, word = axes_layout(f"{word_of(choice)}{even}", "accuracy, %"), word_of(choice)
    layout["xaxis"] |= axis
    band = interval_band(shown, "place")
    hover = f"{word} %{{text}}<br>%{{y:.1f}} %<extra></extra>"
    curve = _curve(shown, "value", hover)
    worst, best = (pick(shown, key=lambda row: row["value"]) for pick in (min, max))
    ends = [f"{row['value']:.1f} % at {plain(row['at'])}" for row in (worst, best)]
    words = f"From {ends[0]} to {ends[1]}{SHADE if band else ''}."
    return Chart(title, {"data": [*band, curve], "layout": layout}, words)


def losses_over(title: str, rows: Sequence[Facts], choice: str) -> Chart:
    """Losses of the flow over a setting; a line for the shared loss before. rows: {"at", "loss", "before"}."""
    shown, axis, even = spread(rows)
    layout, word = axes_layout(f"{word_of(choice)}{even}", "loss"), word_of(choice)
    layout["xaxis"] |= axis
    layout["yaxis"]["rangemode"] = "tozero"
    curve = _curve(shown, "loss", f"{word} %{{text}}<br>%{{y:.4g}}<extra></extra>")
    least, most = (pick(shown, key=lambda row: row["loss"]) for pick in (min, max))
    ends = [f"{significant(row['loss'])} at {plain(row['at'])}" for row in (least, most)]
    words, before = f"From {ends[0]} to {ends[1]}", [row["before"] for row in complete_rows(rows, "before")]
    if len(before) == len(rows) and len(set(before)) == 1:
        layout["shapes"] = [line_across(before[0])]
        words += f"; the dotted line is the loss before, {significant(before[0])}"
    return Chart(title, {"data": [curve], "layout": layout}, words + ".")


def share_bars(title: str, rows: Sequence[Facts], note: str = "error bars are 95 % intervals") -> Chart:
    """A bar per run, first on top. rows: {"label", "value", "low", "high"}, proportions; low, high may be missing."""
    names, values = [str(row["label"]) for row in rows], [100 * row["value"] for row in rows]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": values,
        "hovertemplate": "%{y}<br>%{x:.1f} %<extra></extra>",
    }
    sure = complete_rows(rows, "low", "high")  # a trace of its own: error bars of zero width would still have caps
    ends = {
        "type": "scatter",
        "mode": "markers",
        "y": [str(row["label"]) for row in sure],
        "x": [100 * row["value"] for row in sure],
        "marker": {"opacity": 0, "color": f"rgb({WHISKER})"},
        "error_x": whiskers(sure),
        "hoverinfo": "skip",
    }
    layout = base_layout(
        76 + 26 * len(rows),
        xaxis={**AXIS, "title": {"text": "accuracy, %"}, "rangemode": "tozero"},
        yaxis={**AXIS, "type": "category", "range": [len(rows) - 0.5, -0.5], "dtick": 1, "ticksuffix": " "},
        bargap=0.3,
    )
    worst, best = (pick(range(len(rows)), key=values.__getitem__) for pick in (min, max))
    words = f"From {values[worst]:.1f} % ({names[worst]}) to {values[best]:.1f} % ({names[best]}); {note}."
    return Chart(title, {"data": [bars, ends] if sure else [bars], "layout": layout}, words)


def spread(rows: Sequence[Facts]) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """The sorted rows with their positions on the axis, the axis, and a note for its title.

    The axis is linear; logarithmic for values far apart; evenly spaced if one of these is 0.
    """
    rows = sorted(rows, key=lambda row: row["at"])
    values = [row["at"] for row in rows]
    least = min((value for value in values if value > 0), default=1)
    wide, even = values[-1] >= WIDE * least, values[0] <= 0
    places = range(len(values)) if wide and even else values
    axis: dict[str, Any] = {"type": "log" if wide and not even else "linear"}
    if len(values) <= TICKED or (wide and even):
        axis |= {"tickvals": list(places), "ticktext": [plain(value) for value in values]}
    shown = [{**row, "place": place} for row, place in zip(rows, places, strict=True)]
    return shown, axis, " (evenly spaced)" if wide and even else ""


def _curve(shown: Sequence[Facts], key: str, hover: str) -> dict[str, Any]:
    x, y = [row["place"] for row in shown], [row[key] for row in shown]
    return curve_trace(x, y, hover, text=[plain(row["at"]) for row in shown])


def _percent(row: Facts) -> dict[str, Any]:
    return {key: 100 * row[key] for key in ("value", "low", "high") if is_number(row.get(key))}


def plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def word_of(choice: str) -> str:
    return NAMED.get(choice) or NAMED.get(_last(choice), _last(choice).replace("_", " "))


def _last(choice: str) -> str:
    """The name of a setting without its table."""
    return choice.rpartition(".")[2]
