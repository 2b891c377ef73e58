"""The charts of the page, as Plotly figures in plain dictionaries: the page colours them, for light and dark.

Every chart stands with a sentence that says the same, for readers who cannot see it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

ACCENT = "10,127,90"  # red, green, blue: the page's one accent, fading to nothing so that any ground shows through
ASIDE = "136,142,150"  # of what the measured is held to
MOST_COLUMNS = 24  # of a confusion: the rarest other answers share one more column
OTHER = "other"
CYCLES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]  # per pixel, named on the axis of a spectrum
POINTS_AT_MOST = 1000  # of a line over the steps; a long training has more, which no screen can show
FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12}


@dataclass(frozen=True)
class Chart:
    """A figure, the words above it and the words that stand for it. coloured: its lines keep colours of their own."""

    title: str
    figure: dict[str, Any]
    words: str
    wide: bool = False
    coloured: bool = False


def base_layout(height: int, **more: Any) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    base = {"height": height, "paper_bgcolor": clear, "plot_bgcolor": clear, "font": FONT, "showlegend": False}
    return {**base, "hoverlabel": {"bgcolor": "#22262b", "font": {"color": "#ffffff"}}, "dragmode": False, **more}


def verdicts(judge: Mapping[str, Any]) -> list[str | None]:
    """What a judge called each picture, by name, or by number where it has no names."""
    return [
        None if called is None else str(called) for called in judge.get("called_names") or judge.get("called") or []
    ]


def is_hit(judge: Mapping[str, Any], place: int, picture: Mapping[str, Any]) -> bool | None:
    """Whether the judge called picture ``place`` what was wanted; None where nothing was wanted or said."""
    called, names = judge.get("called") or [], judge.get("called_names") or []
    label, wanted = picture.get("label"), picture.get("class")
    if wanted is not None and place < len(names) and names[place] is not None:
        return str(names[place]) == str(wanted)
    if label is not None and place < len(called) and called[place] is not None:
        return int(called[place]) == int(label)
    return None


def confusion(judge: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Wanted class (rows) against what the judge called it (columns), or None where no class was wanted."""
    named = bool(judge.get("called_names"))
    wanted = [picture.get("class") if named else picture.get("label") for picture in pictures]
    pairs = [(str(w), c) for w, c in zip(wanted, verdicts(judge), strict=False) if w is not None and c is not None]
    if not pairs:
        return None
    return counted(str(judge.get("judge", "unnamed")), Counter(pairs))


def counted(title: str, pairs: Counter[tuple[str, str]]) -> Chart:
    """How many pictures of each wanted class (rows) were called what (columns). pairs: {(wanted, called): pictures}."""
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
    words = f"{pairs.total() - wrong.total()} of {pairs.total()} called what was wanted"
    if wrong:
        (was, called), times = wrong.most_common(1)[0]
        words += f"; most often mistaken: {was} for {called} ({times})"
    return Chart(title, _heatmap(rows, shown, grid), words + ".", wide=len(shown) > 12)


def _heatmap(rows: list[str], columns: list[str], grid: list[list[int]]) -> dict[str, Any]:
    trace = {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": grid,
        "text": [[str(n) if n else "" for n in line] for line in grid],
        "texttemplate": "%{text}",
        "hovertemplate": "wanted %{y}<br>called %{x}<br>%{z} pictures<extra></extra>",
        "colorscale": [[0, f"rgba({ACCENT},0.04)"], [1, f"rgba({ACCENT},0.72)"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "zmin": 0,
    }
    axis = {"type": "category", "automargin": True, "fixedrange": True, "showgrid": False, "ticks": ""}
    layout = base_layout(
        90 + 26 * max(len(rows), 4),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis={**axis, "title": {"text": "called"}, "tickangle": -45},
        yaxis={**axis, "title": {"text": "wanted"}, "autorange": "reversed"},
    )
    return {"data": [trace], "layout": layout}


def spectrum(title: str, images: Mapping[str, Any]) -> Chart | None:
    """The power of each ring of frequencies, of the pictures and of the null, both axes by factors of ten."""
    own, null = images.get("spectrum") or {}, images.get("spectrum_null") or {}
    if not own.get("power"):
        return None
    lines = [("null", null, ASIDE, "dot")] if null.get("power") else []
    lines += [("pictures", own, ACCENT, "solid")]
    traces, notes = [], []
    for words, line, colour, dash in lines:
        x, y, look = line["frequency"], line["power"], {"color": f"rgb({colour})", "width": 1.8, "dash": dash}
        hover = f"{words}<br>%{{x:.3f}} cycles per pixel<br>%{{y:.3g}}<extra></extra>"
        traces.append({"type": "scatter", "mode": "lines", "x": x, "y": y, "line": look, "hovertemplate": hover})
        side = "bottom" if y[-1] == max(of["power"][-1] for _, of, _, _ in lines) else "top"  # so that no two overlap
        end = {"x": math.log10(x[-1]), "y": math.log10(y[-1]), "xanchor": "left", "yanchor": side, "showarrow": False}
        notes.append({**end, "text": words})
    axis = {"automargin": True, "fixedrange": True, "zeroline": False, "type": "log", "exponentformat": "power"}
    layout = base_layout(
        260,
        margin={"l": 8, "r": 64, "t": 8, "b": 8},
        xaxis={
            **axis,
            "title": {"text": "cycles per pixel"},
            "showgrid": False,
            "tickvals": CYCLES,
            "ticktext": list(map(str, CYCLES)),
        },
        yaxis={**axis, "title": {"text": "power"}, "dtick": 1},
        hovermode="closest",
        annotations=notes,
    )
    slopes = [images.get(key) for key in ("spectrum_slope", "spectrum_slope_null")]
    told = [f"{value:.2f}".replace("-", "−") if isinstance(value, (int, float)) else "not measured" for value in slopes]
    words = f"Slope of the pictures {told[0]}, of the null {told[1]}; photographs have about −2."
    return Chart(title, {"data": traces, "layout": layout}, words)


def objectives(frames: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """One line chart per measured value over the steps, its mean over the batches that reached the step."""
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
    trace = {
        "type": "scatter",
        "mode": "lines" if len(x) > 1 else "markers",
        "x": x,
        "y": y,
        "line": {"color": f"rgb({ACCENT})", "width": 1.8},
        "marker": {"color": f"rgb({ACCENT})"},
        "hovertemplate": "step %{x}<br>%{y:.4g}<extra></extra>",
    }
    axis = {"automargin": True, "fixedrange": True, "zeroline": False, "nticks": 5}
    layout = base_layout(
        190,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        xaxis={**axis, "title": {"text": "step"}, "showgrid": False},
        yaxis=axis,
        hovermode="x",
    )
    first, last = (f"{value:.4g}".replace("-", "−") for value in (y[0], y[-1]))
    words = f"From {first} at step {x[0]} to {last} at step {x[-1]}."
    return Chart(key, {"data": [trace], "layout": layout}, words)
