"""The charts of an audit: consistency by class and by layer, and entanglement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bothways.report.axes import line_across
from bothways.report.charts import ACCENT, ASIDE, Chart, base_layout, heatmap
from bothways.report.parts import Facts


def worst_first(facts: Facts) -> list[Facts]:
    """The classes by decreasing consistency score."""
    return sorted(facts["classes"], key=lambda own: -own["consistency"]["value"])


def viewer_name(viewer: Facts) -> str:
    """The name of a viewer as a column title."""
    return "the model itself" if viewer["own"] else str(viewer["viewer"]).removeprefix("bundled:")


def consistency_chart(facts: Facts) -> Chart:
    """Bars of consistency with intervals, the highest first, and the threshold for a closer look."""
    classes, limit = worst_first(facts), facts["worth_a_look"]
    values = [own["consistency"] for own in classes]
    reach = {
        key: [abs((own[end] if own[end] is not None else own["value"]) - own["value"]) for own in values]
        for key, end in (("array", "high"), ("arrayminus", "low"))
    }
    trace = {
        "type": "bar",
        "x": [own["name"] for own in classes],
        "y": [own["value"] for own in values],
        "marker": {"color": [f"rgb({ACCENT if own['worth_a_look'] else ASIDE})" for own in classes]},
        "error_y": {**reach, "symmetric": False, "color": f"rgb({ASIDE})", "thickness": 1.2, "width": 3},
        "hovertemplate": "%{x}<br>%{y:.2f} of the median<extra></extra>",
    }
    layout = base_layout(
        280,
        xaxis={"type": "category"},
        yaxis={"title": {"text": "of the median class"}, "rangemode": "tozero"},
        shapes=[line_across(limit)],
    )
    words = f"Dotted line: {limit:g}, the threshold for a closer look. Error bars: 95 % over seeds."
    return Chart("Consistency across seeds", {"data": [trace], "layout": layout}, words, wide=True, coloured=True)


def layer_chart(facts: Facts) -> Chart:
    """A heatmap of classes by layer; colour and texture show in early layers, shapes in late ones."""
    classes = worst_first(facts)
    layers = facts["layers"]
    grid = [[own["consistency"]["by_layer"][layer] for layer in layers] for own in classes]
    words = "Each layer in units of its median class, from input to features."
    return Chart(
        "By layer",
        _shares(layers, [own["name"] for own in classes], grid, 2 * facts["worth_a_look"]),
        words,
        wide=True,
    )


def entanglement_charts(facts: Facts) -> list[Chart]:
    """A matrix per viewer, clustered so that entangled classes are adjacent."""
    charts = []
    for viewer in facts["entanglement"]:
        rows = [facts["classes"][place]["name"] for place in viewer["order"]]
        columns = [*(own for own in rows if own in viewer["columns"])]
        columns += [own for own in viewer["columns"] if own not in rows]
        places = [viewer["columns"].index(column) for column in columns]
        grid = [[viewer["drawn"][row][place] for place in places] for row in viewer["order"]]
        words = "Rows: portraits of a class. Values: the share in which the column's class is among the next two."
        charts.append(Chart(viewer_name(viewer), _shares(columns, rows, grid, 1.0), words))
    return charts


def _shares(columns: Sequence[str], rows: Sequence[str], grid: Sequence[Sequence[float]], top: float) -> dict[str, Any]:
    """A heatmap of values from 0 to ``top``, annotated."""
    text = [[f"{value:.2f}".removeprefix("0") if value else "" for value in line] for line in grid]
    return heatmap(columns, rows, grid, "%{y}<br>%{x}: %{z:.2f}<extra></extra>", text=text, zmax=top)
