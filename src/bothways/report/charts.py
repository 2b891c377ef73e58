"""Charts of the report as Plotly figures in plain dictionaries, with the shared template.

Every chart comes with a sentence that describes it, for screen readers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

ACCENT = "10,127,90"  # RGB of the accent colour, used with alpha so that it works on light and dark pages
ASIDE = "136,142,150"  # RGB of reference lines and baselines
MOST_COLUMNS = 24  # of a confusion matrix; rarer predictions share one more column
OTHER = "other"
MARKUP = re.compile(r"<(?!br>|/?extra>)")  # but what the hover texts of ours hold
POINTS_AT_MOST = 1000  # of a line over the steps; longer trainings are subsampled

_AXIS = {"automargin": True, "fixedrange": True, "zeroline": False}
_FILLED = {"marker": {"color": f"rgba({ACCENT},0.72)"}}
TEMPLATE: dict[str, Any] = {  # added to each figure by page.js
    "layout": {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12},
        "colorway": [f"rgb({ACCENT})"],
        "hoverlabel": {"bgcolor": "#22262b", "font": {"color": "#ffffff"}},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "xaxis": {**_AXIS, "showgrid": False},
        "yaxis": _AXIS,
    },
    "data": {
        "scatter": [{"line": {"width": 1.8}, "marker": {"size": 5}}],
        "bar": [_FILLED],
        "histogram": [_FILLED],
        "heatmap": [
            {
                "colorscale": [[0, f"rgba({ACCENT},0.04)"], [1, f"rgba({ACCENT},0.72)"]],
                "texttemplate": "%{text}",
                "showscale": False,
                "xgap": 2,
                "ygap": 2,
            }
        ],
    },
}


@dataclass(frozen=True)
class Chart:
    """A Plotly figure with its title and text description.

    coloured: keep the colours of the traces instead of the accent colour.
    """

    title: str
    figure: dict[str, Any]
    words: str
    wide: bool = False
    coloured: bool = False


def inert(figure: Any) -> Any:
    """A figure in whose texts no name is markup: Plotly makes a link of ``<a href=...>``. Line breaks of ours stay."""
    if isinstance(figure, str):
        return MARKUP.sub("&lt;", figure.replace("&", "&amp;"))
    if isinstance(figure, Mapping):
        return {key: inert(value) for key, value in figure.items()}
    return [inert(one) for one in figure] if isinstance(figure, list | tuple | range) else figure


def base_layout(height: int, **more: Any) -> dict[str, Any]:
    """A layout of a height in pixels; the template sets the rest."""
    return {"height": height, **more}


def heatmap(
    columns: Sequence[str], rows: Sequence[str], grid: Sequence[Sequence[Any]], hover: str, **more: Any
) -> dict[str, Any]:
    """A heatmap with named rows and columns, first row on top. more: properties of the trace."""
    trace = {
        "type": "heatmap",
        "x": list(columns),
        "y": list(rows),
        "z": grid,
        "zmin": 0,
        "hovertemplate": hover,
        **more,
    }
    axis = {"type": "category", "showgrid": False, "ticks": ""}
    layout = base_layout(
        90 + 26 * max(len(rows), 4), xaxis={**axis, "tickangle": -45}, yaxis={**axis, "autorange": "reversed"}
    )
    return {"data": [trace], "layout": layout}


def counted(title: str, pairs: Counter[tuple[str, str]]) -> Chart:
    """A confusion matrix, targets as rows and predictions as columns. pairs: {(target, prediction): pictures}."""
    rows = list(dict.fromkeys(w for w, _ in pairs))
    answers: Counter[str] = Counter()
    for (_, called), times in pairs.items():
        answers[called] += times
    columns = [row for row in rows if row in answers] if len(rows) > MOST_COLUMNS else list(rows)
    columns += [c for c, _ in answers.most_common() if c not in rows]
    shown = columns[:MOST_COLUMNS]
    counts: Counter[tuple[str, str]] = Counter()
    for (w, c), times in pairs.items():
        counts[w, c if c in shown else OTHER] += times
    shown += [OTHER] if len(columns) > MOST_COLUMNS else []
    grid = [[counts[row, column] for column in shown] for row in rows]
    wrong = Counter({pair: times for pair, times in pairs.items() if pair[0] != pair[1]})
    words = f"{pairs.total() - wrong.total()} of {pairs.total()} predicted as their target class"
    if wrong:
        (was, called), times = wrong.most_common(1)[0]
        words += f"; most frequent error: {was} predicted as {called} ({times})"
    hover = "target %{y}<br>predicted %{x}<br>%{z} pictures<extra></extra>"
    figure = heatmap(shown, rows, grid, hover, text=[[str(n) if n else "" for n in line] for line in grid])
    figure["layout"]["xaxis"]["title"] = {"text": "predicted class"}
    figure["layout"]["yaxis"]["title"] = {"text": "target class"}
    return Chart(title, figure, words + ".", wide=len(shown) > 12)


def objectives(frames: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A line chart of each statistic over the steps, as the mean over the batches that reached the step."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        for key, value in (frame.get("stats") or {}).items():
            if isinstance(value, (int, float)):
                values[key][int(frame["step"])].append(float(value))
    return [_line(key, {step: fmean(steps[step]) for step in sorted(steps)}) for key, steps in values.items()]


def _line(key: str, means: Mapping[int, float]) -> Chart:
    x, y = list(means), [float(f"{value:.6g}") for value in means.values()]
    every = -(-len(x) // POINTS_AT_MOST)
    x, y = ([*line[:-1:every], line[-1]] for line in (x, y))
    mode, hover = "lines" if len(x) > 1 else "markers", "step %{x}<br>%{y:.4g}<extra></extra>"
    trace = {"type": "scatter", "mode": mode, "x": x, "y": y, "hovertemplate": hover}
    layout = base_layout(190, xaxis={"title": {"text": "step"}, "nticks": 5}, yaxis={"nticks": 5}, hovermode="x")
    first, last = (f"{value:.4g}".replace("-", "−") for value in (y[0], y[-1]))
    words = f"From {first} at step {x[0]} to {last} at step {x[-1]}."
    return Chart(key, {"data": [trace], "layout": layout}, words)
