"""The page of an evaluation: every number as it was found, valid charts, and what is missing left out."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from bothways.report import render
from bothways.runs import RunFolder
from bothways.tasks.evaluate import section as evaluation

KINDS = ("fog", "snow", "blur")


def share(value: float) -> dict:
    return {"value": value, "low": value - 0.04, "high": value + 0.03}


def found(classes: int = 3) -> dict:
    names = [f"class {k}" for k in range(classes)]
    accuracy = [0.9 - 0.5 * k / classes for k in range(classes)]
    counts = [[a, b, 9 if a == b else 1 + k] for k, a in enumerate(names) for b in names[: k + 1]]
    bins = [{"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None}]
    bins += [{"low": 0.5, "high": 1.0, "n": 40, "confidence": 0.8125, "accuracy": 0.7}]
    return {
        "model": "bundled:small",
        "data": {"address": "d", "split": "test", "pictures": 40, "matched": "name"},
        "clean": {
            **{"n": 40, "top1": share(0.731), "top5": None, "nll": 0.612, "ece": 0.1125, "mce": 0.3},
            "bins": bins,
            "per_class": [{"class": n, "n": 10, **share(v)} for n, v in zip(names, accuracy, strict=True)],
            "confusion": counts,
        },
        "corruptions": {
            "set": "made on the fly, NOT CIFAR-10-C",
            "checked": "six corruptions",
            "rows": [
                {"corruption": k, "severity": s, "n": 40, **share(0.6 - 0.01 * s - 0.1 * i)}
                for i, k in enumerate(KINDS)
                for s in range(1, 6)
            ],
            "by_corruption": [{"corruption": k, "n": 40, **share(0.57 - 0.1 * i)} for i, k in enumerate(KINDS)],
            "by_severity": [{"severity": s, "n": 40, **share(0.5 - 0.01 * s)} for s in range(1, 6)],
            "mean": {"n": 40, **share(0.4712)},
        },
        "skipped": {"a/torn.png": "not a picture"},
    }


def run_of(path: Path, facts: dict) -> RunFolder:
    folder = RunFolder.create(path, {"task": "evaluate", "settings": {}, "model": {"address": "bundled:small"}})
    folder.write_measures({"evaluation": facts, "cost": {"seconds": 61.0, "peak_mb": 300.0}})
    folder.write_status("complete", seconds=61.0, started="2026-05-03T10:00:00+00:00")
    return folder


def test_the_page_says_what_was_asked_and_shows_every_part(tmp_path: Path) -> None:
    html = render([run_of(tmp_path / "run", found())])
    said = "evaluate tested bundled:small on 40 pictures, clean and under 15 corruptions, in 1 min 01 s on 3 May 2026."
    assert said in html
    for title in ("The classifier in numbers", "Corrupted pictures", "Reliability diagram", "Accuracy by class"):
        assert f"<h3>{title}</h3>" in html, title
    for absent in ("no picture finished", "Confusion matrices", "Judge metrics", "Statistics during", "nan", "None"):
        assert absent not in html.split("<script")[0], absent
    for value in (0.731, 0.1125, 0.4712, 0.8125, 0.59, 0.45):
        assert f'data-csv="{value}"' in html, value
    assert "NOT CIFAR-10-C" in html
    assert "a/torn.png" in html
    assert html.count('role="img"') == 3
    assert "of the whole evaluation" in html


def test_charts_are_valid_plotly_and_hold_the_numbers() -> None:
    section = evaluation.section({"evaluation": found()})
    assert section is not None
    charts = [chart for part in section["parts"] for chart in part.charts]
    for chart in charts:
        go.Figure(chart.figure)
        assert chart.words.endswith(".")
    bars, reliability, confusion = (chart.figure["data"] for chart in charts)
    assert bars[0]["x"] == list(KINDS)
    assert abs(bars[0]["y"][1] - 47) < 1e-12
    assert all(abs(reach - 3) < 1e-9 for reach in bars[0]["error_y"]["array"])
    assert all(abs(reach - 4) < 1e-9 for reach in bars[0]["error_y"]["arrayminus"])
    assert (reliability[1]["x"], reliability[1]["y"]) == ([0.8125], [0.7])
    assert confusion[0]["z"] == [[9, 0, 0], [2, 9, 0], [3, 3, 9]]


def test_of_many_classes_the_worst_are_drawn_and_all_are_told() -> None:
    section = evaluation.section({"evaluation": found(60)})
    assert section is not None
    part = section["parts"][-1]
    assert part.charts[0].figure["data"][0]["y"] == [f"class {k}" for k in range(36, 60)]
    assert part.charts[0].figure["data"][0]["x"][-1] == "other"
    assert part.table is not None
    assert len(part.table.rows) == 60


def test_what_is_missing_or_broken_does_not_break_the_page(tmp_path: Path) -> None:
    broken = {
        "clean": {"n": None, "bins": [{}], "per_class": [{}], "top1": {"value": None}},
        "corruptions": {"rows": [{}]},
    }
    for place, facts in enumerate(({}, broken)):
        assert "evaluate tested" in render([run_of(tmp_path / str(place), facts)])


def test_two_classifiers_stand_side_by_side(tmp_path: Path) -> None:
    html = render([run_of(tmp_path / "a", found()), run_of(tmp_path / "b", found(5))])
    assert "comparable only where the set is the same" in html


def test_a_run_that_was_stopped_says_what_it_asked(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, {"task": "evaluate", "settings": {}, "model": {"address": "bundled:small"}})
    folder.write_status("stopped", "stopped before the end")
    html = render([folder])
    assert "evaluate tested bundled:small" in html
    assert "drew" not in html.split("<script")[0]
