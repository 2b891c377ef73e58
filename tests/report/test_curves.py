"""The page of curves and of what was measured along a training: the numbers as found, and nothing where nothing is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from bothways.report import render
from bothways.report.training import along
from bothways.runs import RunFolder
from bothways.tasks.curves import section as curves


def point(value: float, **places: Any) -> dict[str, Any]:
    facts = {"steps": 5, "depth": 0.5, "calls": places.get("steps", 5), "trained": False, "n": 40, "nll": 1.5 - value}
    return {**facts, "value": value, "low": value - 0.1, "high": value + 0.05, **places}


def found() -> dict[str, Any]:
    own = point(0.8125, trained=True)
    return {
        "model": "runs/digits",
        "data": {"address": "digits", "split": "test", "matched": "name"},
        "kind": "walked",
        "solver": "euler",
        "trained": own,
        "steps": [point(0.5, steps=2), own, point(0.75, steps=1000, n=20)],
        "depth": [point(0.625, depth=0.4, offset=-0.2), {**own, "offset": 0.0}],
        "skipped": {"a/torn.png": "not a picture"},
    }


def run_of(path: Path, facts: dict[str, Any]) -> RunFolder:
    folder = RunFolder.create(path, {"task": "curves", "settings": {}, "model": {"address": "runs/digits"}})
    folder.write_measures({"curves": facts, "cost": {"seconds": 61.0, "peak_mb": 300.0}})
    folder.write_status("complete", seconds=61.0, started="2026-05-03T10:00:00+00:00")
    return folder


def test_the_page_says_what_was_asked_and_shows_both_curves(tmp_path: Path) -> None:
    html = render([run_of(tmp_path / "run", found())])
    said = "curves evaluated runs/digits at 3 numbers of steps and at 2 depths in 1 min 01 s on 3 May 2026."
    assert said in html
    for title in ("The classifier at its trained setting", "Other numbers of steps", "Other depths"):
        assert f"<h3>{title}</h3>" in html, title
    for absent in ("no picture finished", "Judge metrics", "Statistics during", "nan", "None", "Depth of activations"):
        assert absent not in html.split("<script")[0], absent
    for value in (0.8125, 0.5, 0.75, 0.625, 1000, -0.2, 40, 20):
        assert f'data-csv="{value}"' in html, value
    assert "Skipped unreadable pictures: 1." in html
    assert html.count('role="img"') == 2
    assert html.count('class="copy"') == 3 + 1 + 2  # trained and two curves, cost, settings and model


def test_charts_are_valid_and_the_trained_point_is_marked() -> None:
    section = curves.section({"curves": found()})
    assert section is not None
    steps, depth = (part.charts[0] for part in section["parts"])
    for chart in (steps, depth):
        go.Figure(chart.figure)  # raises on any property that Plotly does not know
        assert chart.words.endswith("the dotted line is the trained setting, 81.2 %.")
    assert steps.words.startswith("From 50.0 to 81.2 %; the shade is the 95 % interval")
    band, line = steps.figure["data"]
    assert (line["x"], line["y"]) == ([2, 5, 1000], [50.0, 81.25, 75.0])
    assert band["x"] == [2, 5, 1000, 1000, 5, 2]
    assert all(abs(a - b) < 1e-9 for a, b in zip(band["y"], [55, 86.25, 80, 65, 71.25, 40], strict=True))
    assert steps.figure["layout"]["xaxis"]["type"] == "log"
    assert steps.figure["layout"]["shapes"][0]["x0"] == 5  # on a log axis a shape stands at the value
    assert steps.figure["layout"]["annotations"][0]["x"] == math.log10(5)  # and a note at its logarithm
    assert depth.figure["layout"]["shapes"][0]["x0"] == 0
    assert depth.figure["layout"]["xaxis"]["ticktext"] == ["−20 %", "0 %"]


def test_what_is_missing_or_broken_does_not_break_the_page(tmp_path: Path) -> None:
    broken = {"trained": {}, "steps": [{}, {"steps": 2, "value": None}], "depth": [{"offset": 0.1, "value": 0.5}]}
    for place, facts in enumerate(({}, broken, {**found(), "steps": []})):
        html = render([run_of(tmp_path / str(place), facts)])
        assert "Other numbers of steps" not in html
        assert "None" not in html.split("<script")[0]
    stopped = RunFolder.create(tmp_path / "stopped", {"task": "curves", "settings": {}, "model": {"address": "r"}})
    stopped.write_status("stopped", "stopped before the end")
    assert "curves evaluated r" in render([stopped])


def test_two_classifiers_stand_side_by_side(tmp_path: Path) -> None:
    other = {**found(), "steps": [point(0.25, steps=7)], "depth": []}
    html = render([run_of(tmp_path / "a", found()), run_of(tmp_path / "b", other)])
    table = html.split("Side by side</h2>")[1].split("</section>")[0]
    for column in ("2 steps", "7 steps", "1,000 steps", "depth −20 %"):
        assert f">{column}</th>" in table, column
    assert table.count("not measured") == 3 + 1 + 2  # each lacks the other's steps, and the second has no depths


# ---- along a training ----------------------------------------------------------------------------------------------


def test_a_line_a_depth_over_the_steps(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "pretrain", "settings": {}, "model": {"name": "icfm"}})
    assert along(folder) == []
    told = [
        {
            "step": step,
            "n": 8,
            "flow_matching": 1 / (1 + step),
            "information": [{"depth": d, "nats_per_dim": (2 - d) / (1 + step)} for d in (0.1, 0.5, 0.9)],
        }
        for step in (0, 4, 9)
    ]
    torn = json.dumps(told[0])[:20]
    (folder.path / "along.jsonl").write_text("\n".join([*map(json.dumps, told), torn]))
    nats, loss = along(folder)
    for chart in (nats, loss):
        go.Figure(chart.figure)
        assert chart.words.endswith(".")
    assert nats.words.startswith("At depth 0.5 from 1.50 at step 0 to 0.150 at step 9")
    assert [trace["x"] for trace in nats.figure["data"]] == [[0, 4, 9]] * 3
    assert nats.figure["data"][2]["y"] == [1.1 / (1 + step) for step in (0, 4, 9)]
    assert [note["text"] for note in nats.figure["layout"]["annotations"]] == ["depth 0.1", "depth 0.5", "depth 0.9"]
    assert loss.figure["data"][0]["y"] == [1.0, 0.2, 0.1]
    assert "Statistics during training" in render([folder])
    (folder.path / "along.jsonl").write_text(json.dumps({"step": 0, "information": [{"depth": 0.1}]}) + "\n")
    assert along(folder) == []
