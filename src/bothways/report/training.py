"""Shared report functions of trainings: their description, and the measures at checkpoints in RUN/along.jsonl.

    {"step", "n", "flow_matching", "information": [{"depth", "nats_per_dim", "low", "high", ...}],
     "given_noise": {"nats_per_dim", "low", "high", "n"}, "accuracy" or "probe": {"value", "low", "high", "n"}}

A line for the initial weights and for every checkpoint, on n held-out pictures; written by training/along.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.axes import axes_layout, complete_rows, curve_trace, interval_band
from bothways.report.charts import Chart, objectives
from bothways.report.sections import Run
from bothways.report.tables import significant
from bothways.runs import ALONG, RunFolder
from bothways.runs.files import read_lines
from bothways.runs.schema import AlongLine

ACCURACIES = {  # entry of a line -> title of its chart, and what it is
    "accuracy": ("Accuracy on held-out pictures during the training", "Of the averaged weights."),
    "probe": (
        "Linear probe during the training",
        "Fitted on features of every other held-out picture, and tested on the rest.",
    ),
}


def sentence_of(run: Run) -> str:
    """Describe a training: "otcfm trained unet-tiny for 4,000 steps"."""
    trained = run.model if run.model not in ("", run.who) else "a flow"
    steps = f" for {run.steps:,} step{'s' if run.steps > 1 else ''}" if run.steps else ""
    return f"{run.who} trained {trained}{steps}"


def progress_of(run: Run) -> list[Chart]:
    """Charts of the statistics of every step and of the measures at checkpoints."""
    return [*objectives(run.frames), *along(run.folder)]


def along(folder: RunFolder) -> list[Chart]:
    """Charts of both indicators and of the held-out loss over the steps; [] without along.jsonl."""
    lines = read_lines(folder.path / ALONG, AlongLine)
    found = [*(_accuracy(lines, key) for key in ACCURACIES), _information(lines), _given_noise(lines)] if lines else []
    losses = [
        {"step": line["step"], "stats": {"loss on held-out pictures": line["flow_matching"]}}
        for line in complete_rows(lines, "step", "flow_matching")
    ]
    return [chart for chart in found if chart is not None] + objectives(losses)


def _accuracy(lines: Sequence[Mapping[str, Any]], key: str) -> Chart | None:
    """An accuracy over the steps, in percent, with its interval."""
    flattened = [{"step": line.get("step"), **(line.get(key) or {})} for line in lines]
    rows = [
        {**row, **{name: 100 * row[name] for name in ("value", "low", "high") if row.get(name) is not None}}
        for row in complete_rows(flattened, "step", "value")
    ]
    if not rows:
        return None
    title, what = ACCURACIES[key]
    x, y = [row["step"] for row in rows], [row["value"] for row in rows]
    data = [*interval_band(rows, "step"), curve_trace(x, y, "step %{x}<br>%{y:.1f} %<extra></extra>")]
    words = (
        f"From {y[0]:.1f} % at step {x[0]:,} to {y[-1]:.1f} % at step {x[-1]:,}; the shade is the 95 % interval. {what}"
    )
    return Chart(title, {"data": data, "layout": axes_layout("step", "accuracy, %")}, words)


def _information(lines: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The I-MMSE bound over the steps, a line per depth, on a logarithmic axis."""
    flattened = [{**row, "step": line.get("step")} for line in lines for row in line.get("information") or []]
    rows = [row for row in complete_rows(flattened, "step", "depth", "nats_per_dim") if row["nats_per_dim"] > 0]
    if not rows:
        return None
    depths, traces, notes = sorted({row["depth"] for row in rows}), [], []
    for place, depth in enumerate(depths):
        line = [row for row in rows if row["depth"] == depth]
        x, y = [row["step"] for row in line], [row["nats_per_dim"] for row in line]
        hover = f"depth {depth:g}<br>step %{{x}}<br>%{{y:.3g}} nats<extra></extra>"
        traces.append(curve_trace(x, y, hover, opacity=1 - 0.65 * place / len(depths)))
        label = {"x": x[-1], "y": math.log10(y[-1]), "text": f"depth {depth:g}", "xanchor": "left", "xshift": 6}
        notes.append({**label, "showarrow": False})
    layout = axes_layout("step", "nats per dimension", annotations=notes)
    layout["margin"] = {"r": 74}
    layout["yaxis"] |= {"type": "log", "dtick": 1, "exponentformat": "none"}  # it spans decades
    middle = [row for row in rows if row["depth"] == depths[len(depths) // 2]]
    first, last = (f"{significant(row['nats_per_dim'])} at step {row['step']:,}" for row in (middle[0], middle[-1]))
    words = (
        f"At depth {middle[0]['depth']:g} from {first} to {last} nats per dimension. "
        "An upper bound on the mutual information of picture and noisy picture, tight for a perfect denoiser; the same "
        "pictures and noise at every checkpoint."
    )
    return Chart("Bound on mutual information on held-out pictures", {"data": traces, "layout": layout}, words)


def _given_noise(lines: Sequence[Mapping[str, Any]]) -> Chart | None:
    """E log p(x_0 | x_1) over the steps, with its interval."""
    flattened = [{**(line.get("given_noise") or {}), "step": line.get("step")} for line in lines]
    rows = complete_rows(flattened, "step", "nats_per_dim")
    if not rows:
        return None
    hover = "step %{x}<br>%{y:.4g} nats<extra></extra>"
    curve = curve_trace([row["step"] for row in rows], [row["nats_per_dim"] for row in rows], hover)
    first, last = (f"{significant(row['nats_per_dim'])} at step {row['step']:,}" for row in (rows[0], rows[-1]))
    words = (
        f"From {first} to {last} nats per dimension. The log-determinant of the walk from picture to noise, the "
        "indicator of PRG's paper; it rises as the flow learns. The same pictures at every checkpoint."
    )
    layout = axes_layout("step", "nats per dimension")
    data = [*interval_band(rows, "step"), curve]
    return Chart("log p(picture | its noise) on held-out pictures", {"data": data, "layout": layout}, words)
