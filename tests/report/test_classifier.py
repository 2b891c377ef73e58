"""The page of a classifier that was a flow: its numbers, and runs side by side with what makes each a control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.report.page import render
from bothways.runs import RunFolder
from bothways.tasks.finetune.section import comparison_table, numbers_table, what_is_read

FACTS: dict[str, Any] = {
    "accuracy": 0.875, "low": 0.8, "high": 0.925, "n": 100, "cross_entropy": 0.5, "flow_matching": 0.25,
    "flow_matching_before": 0.2, "kind": "walked", "depth": 0.5, "pictures": 400, "frozen": False, "pretrained": True,
}  # fmt: skip


def run(path: Path, **changes: Any) -> RunFolder:
    tables = {"task": "finetune", "settings": {"recipe": "prg-small"}, "model": {"address": "runs/digits"}}
    folder = RunFolder.create(path, tables)
    folder.write_measures({"classifier": {**FACTS, **changes}, "cost": {"seconds": 3.0}})
    folder.write_status("complete", seconds=3.0)
    return folder


def test_the_numbers_are_those_of_the_run() -> None:
    rows = {row[0].text: row for row in numbers_table(FACTS).rows}
    assert [row[1].value for row in rows.values()] == [0.875, 0.5, 0.25, 0.2]
    assert rows["Accuracy"][2].text == "0.800–0.925"
    assert numbers_table({}).rows[0][1].kind == "missing"


def test_the_page_says_that_it_was_trained(tmp_path: Path) -> None:
    page = render([run(tmp_path / "a")])
    assert "prg-small trained runs/digits" in page
    assert "drew 0 pictures" not in page
    assert "The classifier in numbers" in page


def test_side_by_side_each_says_what_it_reads(tmp_path: Path) -> None:
    others = run(tmp_path / "b", kind="activations", activation_depth=0.1, frozen=True, pretrained=False)
    page = render([run(tmp_path / "a"), others])
    assert "pictures walked to depth 0.5" in page
    assert "activations at depth 0.1, flow frozen, not pretrained" in page
    table = comparison_table([("a", {"classifier": FACTS}, {})])
    assert len(table.rows[0]) == len(table.columns)
    assert what_is_read({"kind": "pixels", "frozen": True}).text == "pixels alone"


def test_scores_of_other_targets_stand_side_by_side() -> None:
    scores = [
        {"score": "r2", "output": output, "value": value, "low": 0.25, "high": 0.75}
        for output, value in (("mean", 0.5), ("age", 0.625))
    ]
    numbers = {**{key: FACTS[key] for key in FACTS if key not in ("accuracy", "low", "high")}, "scores": scores}
    table = comparison_table([("a", {"classifier": FACTS}, {}), ("b", {"classifier": numbers}, {})])
    assert table.columns[3:7] == ["Accuracy", "95 % interval", "R2", "95 % interval"]
    assert [[cell.text for cell in row[3:7]] for row in table.rows] == [
        ["0.875", "0.800–0.925", "not measured", "not measured"],
        ["not measured", "not measured", "0.500", "0.250–0.750"],
    ]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_one_that_was_stopped_or_stands_beside_an_evaluation_is_no_drawing(tmp_path: Path) -> None:
    model = {"address": "runs/digits"}
    stopped = RunFolder.create(tmp_path / "b", {"task": "finetune", "settings": {}, "model": model})
    stopped.write_status("stopped", "stopped before the end")
    evaluated = RunFolder.create(tmp_path / "c", {"task": "evaluate", "settings": {}, "model": model})
    evaluated.write_status("complete")
    page = render([run(tmp_path / "a"), stopped, evaluated])
    for said in ("finetune trained runs/digits", "evaluate tested runs/digits", "of the whole evaluation"):
        assert said in page, said
    assert "no picture finished" not in page
    assert page.count("Statistics during training") == 2
