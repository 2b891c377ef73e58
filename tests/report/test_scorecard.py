"""The scorecard's page and Markdown: every number, what was not measured, what is marked, and nothing from outside."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from bothways.runs import to_png
from bothways.tasks.scorecard.section import as_markdown, auroc_chart, cosine_chart, write_scorecard
from bothways.tasks.scorecard.tables import direction_table, distance_table, picture_table, pointing, sentence
from bothways.types import UserError

CONDITIONS = ("noise 0.1", "noise 0.2", "noise 0.5", "blur 1.5", "grey", "shuffled")
LEVELS = ("0.1", "0.2", "0.5")


def around(value: float, reach: float = 0.01) -> list[float]:
    return [value, value - reach, value + reach]


def row(name: str, follows: float, found: float, points: float, **more) -> dict:
    auroc = {key: around(found) for key in CONDITIONS}
    cosine = {key: around(points + 0.01 * k) for k, key in enumerate(LEVELS)}
    return {"name": name, "seconds": 12.5, "spearman": around(follows), "auroc": auroc, "cosine": cosine} | more


def make_card() -> dict:
    judge = {"judge": "bundled:cifar10-plain", "hit_rate": 0.8, "hit_interval": [0.7, 0.9], "mean_confidence": 0.66}
    judge |= {"frechet": 12.345, "frechet_real": 0.812, "diversity": 6.5, "diversity_real": 7.5, "gave_gradient": False}
    judge |= {"kernel": 0.0671, "kernel_interval": [0.0473, 0.0862], "kernel_real": -0.0002}
    drawn = {"start": "grey", "n": 50, "seconds": 61.0}
    return {
        "model": {"name": "bundled:toy <b>", "size": [32, 32]},
        "data": {"address": "pictures", "pictures": 200},
        "settings": {"n": 200, "seed": 0},
        "versions": {"bothways": "0.1.0"},
        "quantities": [
            row("DSF", 0.14, 0.35, -0.02),
            row("statistics", 0.95, 0.987, 0.12),
            row("random direction", 0.99, 0.5, -0.005, control=True),
            {"name": "KL", "seconds": 1.0, "absent": "cannot be differentiated twice"},
            row("flat", 0.2, 0.5, 0.0) | {"spearman": [None, None, None]},
        ],
        "pictures": [
            {"name": "icons", "moved_by": "the class", "judges": [judge], "sheet": "sheets/icons.png", **drawn},
            {
                "name": "dsf",
                "moved_by": "DSF",
                "judges": [{"judge": "own", "hit_rate": None, "gave_gradient": True}],
                **drawn,
            },
            {"name": "sampled", "start": "", "moved_by": "features", "absent": "has no feature layer"},
        ],
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "scorecard.json").write_text(json.dumps(make_card()))
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "icons.png").write_bytes(to_png(torch.full((3, 40, 60), 0.3)))
    return tmp_path


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag) -> None:
        self.inside = ""

    def handle_data(self, data) -> None:
        if not self.inside:
            self.text += f" {data.strip()}"


def test_the_page_holds_every_number_and_asks_for_nothing(folder) -> None:
    html = write_scorecard(folder).read_text()
    page = Page(html)
    for attributes in (found for _, found in page.tags):
        for key in ("src", "href"):
            assert attributes.get(key, "data:").startswith("data:")
    for said in ("0.14", "0.13 to 0.15", "0.99", "−0.020", "12.5 s", "80.0 %", "12.3", "real 0.812", "1 min 01 s"):
        assert said in page.text, said
    for said in (
        "0.0671",
        "0.0473 to 0.0862",
        "KL: cannot be differentiated twice",
        "sampled: has no feature layer",
        "not measured",
        "not drawn",
    ):
        assert said in page.text, said
    assert "<b>" not in html.split("<body")[1].split("<script")[0].replace("<b></b>", "")
    sheets = [found for tag, found in page.tags if tag == "img" and "contact sheet" in (found.get("alt") or "")]
    assert len(sheets) == 1
    assert len([1 for _, found in page.tags if "data-figure" in found]) == 2


def test_only_the_best_of_a_column_is_marked_and_never_the_control() -> None:
    for table in (distance_table(make_card()["quantities"]), direction_table(make_card()["quantities"])):
        for column in range(1, 4):
            marked = [line[0].text for line in table.rows if line[column].kind == "best"]
            assert marked == ["statistics"]
    table = direction_table(make_card()["quantities"])
    assert table.columns == ["Quantity", "noise 0.1", "noise 0.2", "noise 0.5", "Time"]


def test_a_quantity_points_back_where_its_interval_is_above_the_controls() -> None:
    rows = make_card()["quantities"]
    assert [found["name"] for found in pointing(rows)] == ["statistics"]
    rows[1]["cosine"]["0.2"] = around(0.015)  # the control's ends at 0.015 there
    assert pointing(rows) == []
    words = sentence(make_card())
    assert words.startswith("Of 4 label-free quantities, measured on 200 real pictures, 1 points from")
    assert words.endswith("The best correlation with the noise level is 0.95 (statistics).")


def test_the_charts_are_plotlys_and_say_the_same_in_words() -> None:
    rows = make_card()["quantities"]
    for chart in (cosine_chart(rows), auroc_chart(rows)):
        go.Figure(chart.figure)
        assert chart.words
    cosines = cosine_chart(rows)
    assert [trace.get("name") for trace in cosines.figure["data"]] == [None, "DSF", "statistics", "flat"]
    assert [note["text"] for note in cosines.figure["layout"]["annotations"]] == ["statistics"]
    assert "statistics" in cosines.words
    grid = auroc_chart(rows).figure["data"][0]
    assert grid["x"] == list(CONDITIONS)
    assert grid["z"][3] == [None] * 6


def test_a_picture_row_for_each_judge_and_one_for_a_failure() -> None:
    table = picture_table(make_card()["pictures"])
    assert [line[0].text for line in table.rows] == ["icons", "dsf", "sampled"]
    assert [line[3].text for line in table.rows] == ["cifar10-plain", "own", "not drawn"]
    assert table.rows[0][4].remark == "70.0–90.0 %"
    assert "proves nothing" in table.rows[1][3].remark
    assert list(table.columns).index("Kernel") == 7
    assert (table.rows[0][7].text, table.rows[0][7].remark) == ("0.0671", "0.0473 to 0.0862; real −0.000200")
    assert (table.rows[1][7].text, table.rows[1][7].remark) == ("not measured", "")
    card = make_card()
    del card["pictures"][0]["judges"][0]["kernel_interval"]  # a folder of an earlier version
    assert picture_table(card["pictures"]).rows[0][7].remark == "real −0.000200"


def test_markdown_has_the_same_tables() -> None:
    text = as_markdown(make_card())
    lines = text.splitlines()
    assert lines[0] == sentence(make_card())
    for line in lines:
        if line.startswith("|"):
            assert line.endswith("|")
    assert "| statistics | **0.95** (0.94 to 0.96) | **0.99** (0.98 to 1.00) |" in text
    assert len(re.findall(r"^\|---", text, flags=re.MULTILINE)) == 3
    assert len(re.findall(r"^\|---", as_markdown({**make_card(), "pictures": []}), flags=re.MULTILINE)) == 2


def test_a_scorecard_that_was_only_begun_still_has_a_page(folder) -> None:
    (folder / "scorecard.json").write_text(json.dumps({**make_card(), "quantities": [], "pictures": []}))
    page = Page(write_scorecard(folder).read_text())
    assert "not measured" in page.text


def test_mistakes_say_what_to_do(folder, tmp_path_factory) -> None:
    with pytest.raises(UserError, match=r"holds no scorecard\.json"):
        write_scorecard(tmp_path_factory.mktemp("empty"))
    (folder / "sheets" / "icons.png").write_bytes(b"torn")
    with pytest.raises(UserError, match="restore the sheet"):
        write_scorecard(folder)
    (folder / "sheets" / "icons.png").unlink()
    with pytest.raises(UserError, match="restore the sheet"):
        write_scorecard(folder)


def test_a_quantity_with_a_control_of_its_own_points_back_only_above_it() -> None:
    control = row("random direction", 0.0, 0.5, -0.02, control=True)
    for own, found in ((0.1, False), (0.02, True)):
        other = row("random lambda", 0.0, 0.5, own, control=True)
        held = row("held", 0.0, 0.5, 0.1, beside="random lambda")
        assert [r["name"] for r in pointing([held, other, control])] == (["held"] if found else [])
        assert [r["name"] for r in pointing([held | {"beside": ""}, other, control])] == ["held"]
