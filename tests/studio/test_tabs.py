"""The tabs Predict and Explain, and the layers of Generate, by the addresses that a page uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

from bothways import predict
from bothways.runs import RunFolder, from_png, to_png
from bothways.studio import fragments
from held_work import wait
from studio_client import Page, opened

pytest.importorskip("gradio", reason="gradio is not here")
from bothways.studio.tabs.generate import drawn

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
OTHER = TOY.replace(":build", ":other")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("tabs")
    (folder / "mine").mkdir()
    with opened(folder, [TOY, OTHER, str(folder / "mine")]) as found:
        yield found


def said(told: dict[str, Any]) -> str:
    return " ".join(str(part) for part in told["output"]["data"])


def finished(page: Page) -> Any:
    job = page.jobs.all[-1]
    assert wait(lambda: not job.active)
    assert job.state == "complete", job.message
    return job


def test_the_layers_are_listed_and_one_is_drawn(page: Page) -> None:
    told = page.do(page.event("generate-layers"), [TOY, ""])
    table = told["output"]["data"][0]
    rows = [re.findall(r">([^<>\n]+)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table)][1:]
    assert ["body.3", "Conv2d", "8 x 8 x 8", "432"] in rows
    assert ["head", "Linear", "4", "36"] in rows
    assert "body.5" in str(told["output"]["data"][1])
    start = page.event("generate-start")
    page.do(start, page.values(start, Model=TOY, Layer="body.3", Channel="1, 5", Steps=1, Count=1))
    run = RunFolder.open(finished(page).folder)
    assert run.settings["settings"]["recipe"] == "channel"
    assert len(run.pictures) == 2
    drawn = [run.read_picture(record) for record in run.pictures]
    assert not torch.equal(*drawn)


def test_what_was_drawn_is_offered_for_download(page: Page) -> None:
    start = page.event("generate-start")
    page.do(start, page.values(start, Model=TOY, Classes=["anchor"], Recipe="das", Steps=2, Count=2, GIF=True))
    job = finished(page)
    shown = drawn(job)[1]
    assert re.findall(r">([\w.-]+)</a>", shown.partition("</p>")[0]) == ["sheet.png", "drawing.gif"]
    links = [unescape(link) for link in re.findall(r'href="(download[^"]+)"', shown)]
    kinds = [page.client.get(f"/{link}") for link in links]
    assert [answer.headers["content-type"] for answer in kinds] == ["image/png", "image/gif"]
    assert f'filename="{job.name}-drawing.gif"' in kinds[1].headers["content-disposition"]
    assert kinds[1].content == (job.folder / "drawing.gif").read_bytes()
    for file in ("recipe.toml", "report.html", "../toy_model.py", "images/0000-anchor.png", "atlas.html", ""):
        assert page.client.get("/download", params={"run": job.name, "file": file}).status_code == 404
    assert page.client.get("/download", params={"run": "../x", "file": "sheet.png"}).status_code == 404
    beside = fragments.beside({job.name: RunFolder(job.folder)})
    assert all(link in unescape(beside) for link in links)
    values = page.choose_run(job.name)["output"]["data"]
    assert True in values
    page.do(start, page.values(start, Model=TOY, Classes=["anchor"], Recipe="das", Steps=1, Count=1))
    assert not (finished(page).folder / "drawing.gif").exists()


@pytest.mark.parametrize(
    ("layer", "channel", "words"),
    [("", "3", "fill in Layer"), ("body.3", "x", "whole numbers, such as 3 17"), ("body.3", "-1", "whole numbers")],
)
def test_a_channel_that_is_none_is_a_sentence(page: Page, layer: str, channel: str, words: str) -> None:
    start = page.event("generate-start")
    assert words in said(page.do(start, page.values(start, Model=TOY, Layer=layer, Channel=channel)))


def test_layers_of_a_model_that_is_not_there_are_a_sentence(page: Page) -> None:
    assert "no bundled model" in said(page.do(page.event("generate-layers"), ["bundled:cifar11", ""]))
    assert "no model was chosen" in said(page.do(page.event("generate-layers"), ["", ""]))


@pytest.mark.parametrize("model", ["bundled:cifar10-resnet", TOY, OTHER])
def test_a_picture_is_predicted_as_the_command_does(page: Page, tmp_path: Path, model: str) -> None:
    content = to_png(torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(4)))
    (tmp_path / "a.png").write_bytes(content)
    page.do(page.event("predict-file", "upload"), [page.upload("a.png", content)])
    words = said(page.do(page.event("predict-start"), [model, "", None]))
    shown = re.findall(r"<li><span>([^<]+)</span>.*?<span>(\d+) %</span>", words)
    (found,) = predict(model, str(tmp_path / "a.png"))
    assert shown == [(one.name, f"{100 * one.probability:.0f}") for one in found.answers]


def test_a_prediction_without_a_photo_or_by_a_file_elsewhere_is_a_sentence(page: Page, tmp_path: Path) -> None:
    assert "no photo was given" in said(page.do(page.event("predict-start"), [TOY, "", None], "another"))
    page.do(page.event("predict-file", "upload"), [page.upload("a.png", to_png(torch.rand(3, 4, 4)))])
    words = said(page.do(page.event("predict-start"), [f"hf:{tmp_path}", "", None]))
    assert "not allowed at the start" in words


def test_without_a_run_there_is_nothing_to_load(page: Page) -> None:
    assert "no run was chosen; choose one" in said(page.do(page.event("runs-load"), [None]))


def test_an_audit_is_a_job_with_its_page(page: Page, tmp_path: Path) -> None:
    data = page.uploads.parent / "mine"
    for label, name in enumerate(("anchor", "barrel", "candle", "dragon")):
        (data / name).mkdir()
        for number in range(10):
            picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(100 * label + number))
            (data / name / f"{number}.png").write_bytes(to_png(picture))
    start = page.event("explain-start")
    typed = {"Model": TOY, "Real_pictures": str(data), "Portraits": 2, "Steps": 1, "Maximum_real_pictures": 10}
    assert "explain-001" in said(page.do(start, page.values(start, **typed)))
    job = finished(page)
    assert sorted(job.captions.values())[:2] == ["anchor, seed 0, das", "anchor, seed 0, icons"]
    assert sorted(job.pictures) == list(range(16))
    eight = from_png((job.folder / "das" / "images" / "0000-anchor.png").read_bytes())
    assert (job.pictures[8] - eight).abs().max() < 1 / 200  # those of the second recipe follow the first's
    report = page.client.get("/report", params={"run": "explain-001"}).text
    assert "Consistency of the portraits" in report
    for name in ("anchor", "dragon"):
        assert name in report
    assert page.client.get("/report", params={"run": "../mine"}).status_code == 404
    words = said(page.do(start, page.values(start, **(typed | {"Real_pictures": str(tmp_path)}))))
    assert "not allowed at the start" in words
    assert "fill in the path" in said(page.do(start, page.values(start, **(typed | {"Real_pictures": ""}))))
