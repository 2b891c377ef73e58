"""The page of an audit: what it says, that it holds every picture, and that the data's own can be left out."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
import torch

from bothways import UserError
from bothways.numerics.draws import generator
from bothways.report import write_report
from bothways.runs import RunFolder, to_png
from bothways.tasks.explain import section as page
from bothways.tasks.explain.charts import consistency_chart, entanglement_charts

NAMES = ("anchor", "barrel", "candle")


def portrait(number: int, own: str, near: str) -> dict:
    files = {key: f"das/images/{number}-{key}.png" for key in ("file", "alpha", "trait")}
    facts = {"recipe": "das", "index": number, "class": own, "seed": 7 + number, "own_probability": 0.99}
    return {**files, **facts, "number": number, "nearest": {"class": near, "cosine": 0.5, "file": f"real/{number}.png"}}


def own(number: int, value: float, near: str) -> dict:
    name = NAMES[number]
    found = {"value": value, "low": value / 1.1, "high": value * 1.1, "by_layer": {"early": value, "late": 1.0}}
    facts = {"name": name, "label": number, "consistency": found, "worth_a_look": value > 1.6, "layer": "early"}
    facts |= {"gap": 3.0, "spread": 0.5, "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10}}
    return {**facts, "portraits": [portrait(2 * number + i, name, near) for i in range(2)]}


@pytest.fixture
def folder(tmp_path) -> Path:
    run = RunFolder.create(tmp_path / "run", {"model": {"address": "my.py:build"}, "task": "explain", "settings": {}})
    pair = {"class": "anchor", "seen": "whale", "share": 0.9, "real_share": 0.01, "p": 1e-9, "pictures": [0, 1]}
    viewers = [
        {
            "viewer": name, "own": name == "my.py:build", "columns": [*NAMES, "whale"], "order": [2, 0, 1],
            "drawn": [[0, 1, 0.1, 0.9]] * 3, "real": [[0, 1, 0.99, 0.01]] * 3, "pairs": [pair],
        }
        for name in ("bundled:other", "my.py:build")
    ]  # fmt: skip
    facts = {
        "data": {"address": "photos", "split": "test", "skipped": [], "pictures": {}},
        "settings": {"n": 1, "real": 10, "seed": 0, "recipes": ["das"]},
        "layers": ["early", "late"], "worth_a_look": 1.6, "control": 1.2, "entanglement": viewers,
        "classes": [own(0, 0.8, "anchor"), own(1, 2.5, "candle"), own(2, 1.0, "candle")],
    }  # fmt: skip
    for part in ("das/images", "real"):
        (run.path / part).mkdir(parents=True)
    for i in range(6):
        for name, planes in (("file", 3), ("alpha", 4), ("trait", 4)):
            image = torch.rand(planes, 8, 8, generator=generator(i, purpose=name))
            (run.path / f"das/images/{i}-{name}.png").write_bytes(to_png(image))
        (run.path / f"real/{i}.png").write_bytes(to_png(torch.rand(3, 8, 8, generator=generator(i, purpose="real"))))
    run.write_measures({"audit": facts})
    run.write_status("complete")
    return run.path


def test_the_page_says_what_stands_out_and_shows_every_picture(folder) -> None:
    text = page.write_audit(folder).read_text()
    assert "Worth a look" in text
    assert "barrel (2.50 times the median)" in text
    sheets = [text.index(f'aria-label="{name}"') for name in ("barrel", "candle", "anchor")]
    assert sheets == sorted(sheets)  # the worst first
    assert text.count("<img src=") == 6 * 4 + 2  # and the pictures of the one pair
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_the_datas_pictures_can_be_left_out(folder) -> None:
    whole = page.write_audit(folder).read_text()
    hidden = page.write_audit(folder, hide_data=True).read_text()
    assert hidden.count("<img src=") == 6 * 3 + 2
    assert "omitted from this page" in hidden
    for i in range(6):
        data = to_png(torch.rand(3, 8, 8, generator=generator(i, purpose="real")))
        assert base64.b64encode(data).decode() in whole
        assert base64.b64encode(data).decode() not in hidden


def test_the_nearest_of_another_class_is_marked(folder) -> None:
    text = page.write_audit(folder).read_text()
    assert text.count("<b>candle</b>") == 2  # beside the portraits of barrel
    assert "Of the 2 nearest real pictures 0 are of barrel" in text


def test_tables_hold_full_values_and_viewers(folder) -> None:
    facts = page.facts_of(RunFolder.open(folder).measures)
    rows = page.consistency_table(facts).rows
    assert [row[0].text for row in rows] == ["barrel", "candle", "anchor"]
    assert rows[0][1].value == 2.5
    pairs = page.pair_table(facts)
    assert list(pairs.columns) == ["Portraits of", "Also recognised", "other", "the model itself"]
    assert [cell.text for cell in pairs.rows[0]] == ["anchor", "whale", "90 %", "90 %"]


def test_what_viewers_recognise_has_a_row_a_class_beside_the_real_pictures(folder) -> None:
    facts = dict(page.facts_of(RunFolder.open(folder).measures))
    assert page.recognition_table(facts).rows == []  # of a run that did not measure it
    other, own = facts["entanglement"]
    shares = [{"value": 0.5, "n": 4}, None, {"value": 1.0, "n": 4}]
    real = [{"value": 0.9, "n": 20}, None, {"value": 0.8, "n": 20}]
    facts["entanglement"] = [{**other, "recognised": shares, "recognised_real": real}, own]
    table = page.recognition_table(facts)
    assert list(table.columns) == ["Portraits of", "other"]
    by_name = {row[0].text: row[1].text for row in table.rows}
    names = [one["name"] for one in facts["classes"]]
    assert [by_name[name] for name in names] == ["2 of 4", "not one of its classes", "4 of 4"]
    assert [row[0].text for row in table.rows] == ["barrel", "candle", "anchor"]


def test_charts_follow_the_order_of_their_rows(folder) -> None:
    facts = page.facts_of(RunFolder.open(folder).measures)
    bars = consistency_chart(facts).figure["data"][0]
    assert bars["x"] == ["barrel", "candle", "anchor"]
    assert abs(bars["error_y"]["array"][0] - 0.25) < 1e-12
    grid = entanglement_charts(facts)[0].figure["data"][0]
    assert grid["y"] == ["candle", "anchor", "barrel"]
    assert grid["x"] == ["candle", "anchor", "barrel", "whale"]
    assert grid["z"][0] == [0.1, 0, 1, 0.9]


def test_a_model_without_a_finding_is_said_to_have_none(folder) -> None:
    facts = dict(page.facts_of(RunFolder.open(folder).measures))
    facts["classes"] = [own(0, 1.1, "anchor"), own(1, 1.0, "barrel"), own(2, 0.9, "candle")]
    assert "No class stands out" in page.sentence(facts)


def test_no_pair_is_not_the_same_as_not_measured(folder) -> None:
    run = RunFolder.open(folder)
    facts = dict(page.facts_of(run.measures))
    quiet = [{**viewer, "pairs": []} for viewer in facts["entanglement"]]
    run.write_measures({"audit": {**facts, "entanglement": quiet}})
    assert "No pair is listed" in page.render_audit(run)
    run.write_measures({"audit": {**facts, "entanglement": []}})
    assert "no viewer has four classes" in page.render_audit(run)


def test_a_folder_without_an_audit_is_refused(tmp_path) -> None:
    RunFolder.create(tmp_path / "run", {"task": "generate", "settings": {}})
    with pytest.raises(UserError, match="bothways explain MODEL"):
        page.write_audit(tmp_path / "run")


def test_the_report_of_an_audit_is_its_page_and_stands_alone(folder, tmp_path) -> None:
    assert write_report([folder], tmp_path / "report.html").read_text() == page.render_audit(RunFolder.open(folder))
    with pytest.raises(UserError, match="a page of its own"):
        write_report([folder, folder], tmp_path / "both.html")
