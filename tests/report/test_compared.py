"""Runs side by side as charts: over the one number that differs, as bars otherwise, with the numbers of the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from bothways.report import compared, render
from bothways.report.charts import Chart
from bothways.report.sections import Run
from bothways.runs import RunFolder
from bothways.tasks.evaluate import section as evaluated
from bothways.tasks.finetune import section as finetuned


def tuned(path: Path, accuracy: float, loss: float = 0.25, pictures: int = 400, **chosen: Any) -> RunFolder:
    """A fine-tuned run; ``beta`` is left open, and what it was stands in the measures."""
    settings = {"recipe": "prg-small", "seed": 0, "steps": 3, "depth": 0.5, **chosen}
    beta = settings.pop("beta", 1.0)
    tables = {
        "task": "finetune",
        "settings": settings,
        "model": {"address": "runs/digits", "weights": "f00d"},
        "data": {"source": "digits"},
    }
    folder = RunFolder.create(path, tables)
    facts = {"accuracy": accuracy, "low": accuracy - 0.125, "high": accuracy + 0.0625, "kind": "walked", "beta": beta}
    losses = {"flow_matching": loss, "flow_matching_before": 0.125, "depth": settings["depth"], "pictures": pictures}
    folder.write_measures({"classifier": {**facts, **losses}})
    folder.write_status("complete")
    return folder


def asked(path: Path, model: RunFolder, clean: float, corrupted: float) -> RunFolder:
    folder = RunFolder.create(path, {"task": "evaluate", "settings": {}, "model": {"address": str(model.path)}})
    share = {"low": 0.25, "high": 0.75, "n": 8}
    found = {
        "clean": {"n": 8, "top1": {"value": clean, **share}},
        "corruptions": {"mean": {"value": corrupted, **share}},
    }
    folder.write_measures({"evaluation": {"model": str(model.path), **found}})
    folder.write_status("complete")
    return folder


def charts_of(*folders: RunFolder) -> list[Chart]:
    runs = [Run.read(folder, folder.path.name) for folder in folders]
    found = finetuned.charts_of(runs, runs)
    for chart in found:
        go.Figure(chart.figure)  # raises on any property that Plotly does not know
        assert chart.words.endswith(".")
    return found


def test_runs_that_differ_in_one_number_are_curves_over_it(tmp_path: Path) -> None:
    values = [(0.75, 0.5, 0.5), (0.25, 0.375, 0.25), (0.5, 0.625, 0.375)]  # depth, accuracy, loss: in no order
    accuracy, loss = charts_of(*(tuned(tmp_path / str(d), a, loss, depth=d) for d, a, loss in values))
    band, curve = accuracy.figure["data"]
    assert (curve["x"], curve["y"]) == ([0.25, 0.5, 0.75], [37.5, 62.5, 50.0])
    assert band["y"] == [43.75, 68.75, 56.25, 37.5, 50.0, 25.0]  # the upper ends there, the lower ones back
    assert accuracy.figure["layout"]["xaxis"]["title"]["text"] == "depth"
    assert accuracy.words == "From 37.5 % at 0.25 to 62.5 % at 0.5; the shade is the 95 % interval."
    assert loss.figure["data"][0]["y"] == [0.25, 0.375, 0.5]
    assert [loss.figure["layout"]["shapes"][0][key] for key in ("y0", "y1")] == [0.125, 0.125]
    assert loss.words == "From 0.250 at 0.25 to 0.500 at 0.75; the dotted line is the loss before, 0.125."


@pytest.mark.parametrize(
    ("values", "kind", "places"),
    [([500, 5000], "log", [500, 5000]), ([1, 2, 3], "linear", [1, 2, 3]), ([0.0, 1.0, 10.0], "linear", [0, 1, 2])],
)
def test_numbers_far_apart_do_not_crowd(tmp_path: Path, values: list[Any], kind: str, places: list[Any]) -> None:
    chart = charts_of(*(tuned(tmp_path / str(v), 0.5, beta=v) for v in values))[0]
    axis = chart.figure["layout"]["xaxis"]
    assert (axis["type"], chart.figure["data"][1]["x"]) == (kind, places)
    assert axis["ticktext"] == [f"{v:,.4g}" for v in values]
    assert axis["title"]["text"] == ("beta (evenly spaced)" if values[0] == 0 else "beta")


def test_more_labels_may_take_more_steps_but_nothing_else(tmp_path: Path) -> None:
    few = tuned(tmp_path / "few", 0.5, pictures=500, labels=500, fit={"steps": 84})
    all_of_them = tuned(tmp_path / "all", 0.75, pictures=5000, fit={"steps": 234})
    assert charts_of(few, all_of_them)[0].figure["data"][1]["x"] == [500, 5000]
    other = tuned(tmp_path / "other", 0.75, pictures=5000, fit={"steps": 234, "batch": 128})
    assert charts_of(few, other)[0].figure["data"][0]["type"] == "bar"


def test_a_name_or_a_seed_or_several_numbers_are_bars(tmp_path: Path) -> None:
    one = tuned(tmp_path / "one", 0.5)
    changes: list[dict[str, Any]] = [{"kind": "both"}, {"seed": 1}, {"depth": 0.25, "steps": 5}, {}]
    for place, changed in enumerate(changes):
        (chart,) = charts_of(one, tuned(tmp_path / str(place), 0.75, **changed))
        bars, ends = chart.figure["data"]
        assert (bars["type"], bars["y"], bars["x"]) == ("bar", ["one", str(place)], [50.0, 75.0])
        assert (ends["error_x"]["array"], ends["error_x"]["arrayminus"]) == ([6.25, 6.25], [12.5, 12.5])


def test_the_page_draws_evaluations_over_what_their_classifiers_beside_them_differ_in(tmp_path: Path) -> None:
    runs = [tuned(tmp_path / f"steps-{k}", 0.5, steps=k) for k in (1, 5)]
    found = [asked(tmp_path / f"asked-{k}", run, 0.5, 0.25) for k, run in enumerate(runs)]
    together, alone = render([*runs, *found]), render(found)
    assert together.count('"text": "steps of the walk"') == 4  # held out, the loss, clean, corrupted
    assert [page.count('role="img"') for page in (together, alone)] == [4, 2]
    assert "steps of the walk" not in alone
    assert "Accuracy on corrupted pictures" in alone
    assert alone.index("Accuracy on corrupted pictures") < alone.index("Side by side")


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    bare = RunFolder.create(tmp_path / "bare", {"task": "finetune", "settings": {}})
    bare.write_measures({"classifier": {"beta": None}})
    assert charts_of(bare, tuned(tmp_path / "one", 0.5)) == []
    nothing = [RunFolder.create(tmp_path / name, {"task": "evaluate", "settings": {}}) for name in "ab"]
    nothing[1].write_measures({"evaluation": {"clean": None}})
    runs = [Run.read(folder) for folder in nothing]
    assert evaluated.charts_of(runs, runs) == []
    assert "Side by side" in render([bare, tuned(tmp_path / "two", 0.5)])


def test_a_bar_without_an_interval_has_no_whisker() -> None:
    rows = [{"label": "a", "value": 0.5}, {"label": "b", "value": 0.25, "low": 0.125, "high": 0.5}]
    bars, ends = compared.share_bars("Accuracy", rows).figure["data"]
    assert (bars["y"], bars["x"], "error_x" in bars) == (["a", "b"], [50.0, 25.0], False)
    assert (ends["y"], ends["x"], ends["error_x"]["array"]) == (["b"], [25.0], [25.0])
    assert len(compared.share_bars("Accuracy", rows[:1]).figure["data"]) == 1
