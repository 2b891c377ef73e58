"""A diagnosis as a run: every measure is there and on the page, and a stop loses none."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bothways import UserError, diagnose, load_flow, load_images
from bothways.representation.diagnostics import round_trip
from bothways.runs import RunFolder
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from command import refused, run
from small_flow import write_small_flow, write_solver

SHORT: dict[str, Any] = {"n": 2, "steps": 2, "trip_steps": (2,), "depths": (0.5, 1.0)}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_flow(tmp_path_factory.mktemp("flow"), channel_order="grey"))


def test_it_has_every_part_and_shows_them(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "diagnosis"
    asked = ["--data", "digits", "--n", 4, "--steps", 4, "--depths", 0.5, "--depths", 1, "--trip-steps", 2]
    assert run("diagnose", address, *asked, "--out", out) == 0
    found = RunFolder.open(out).measures["flow"]
    straight, said = found["straightness"], capsys.readouterr().out
    total, each = (f"{straight['low'] / per:.3g} to {straight['high'] / per:.3g}" for per in (1, straight["dims"]))
    assert f"straightness {straight['total']:.3g} ({total}) in total" in said
    assert f"{straight['per_dim']:.3g} ({each}) per dimension (0 is straight)" in said
    assert set(found) == {"straightness", "round_trip", "gain", "information", "strips", "strip_depths"}
    assert [entry["depth"] for entry in found["round_trip"]] == [0.5, 1.0]
    assert [entry["depth"] for entry in found["gain"]] == [0.5, 1.0]
    assert len(list((out / "images").glob("strip-*.png"))) == 4
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") >= 4
    assert "traightness" in page


def test_one_picture_has_no_interval(address: str) -> None:
    work = work_of("diagnose", address, "digits", n=1, steps=2, depths=[1.0], trip_steps=[1])
    [line] = work.summary(perform(work), None)
    assert "nan" not in line
    assert " to " not in line


def test_one_that_was_stopped_goes_on(address: str, tmp_path: Path) -> None:
    options = {**SHORT, "out": tmp_path / "run"}
    with closing(work_of("diagnose", address, "digits", **options).run()) as frames:
        for place, _ in enumerate(frames):
            if place == 2:
                break
    again = work_of("diagnose", address, "digits", resume=True, **options)
    assert again.done == 3
    found, whole = (work.measures["flow"] for work in (perform(again), diagnose(address, "digits", **SHORT)))
    assert {name: value for name, value in found.items() if "strip" not in name} == whole


def test_the_round_trip_is_that_of_the_solver(address: str, tmp_path: Path) -> None:
    own = write_solver(tmp_path)
    found = diagnose(address, "digits", solver=own, **SHORT)
    images = load_images("digits", split="test", limit=2).images.float() / 255
    truth = round_trip(load_flow(address), images, [0.5, 1.0], [2], solver="midpoint")
    assert [row["rms"] for row in found.round_trip] == [row.rms for row in truth]
    assert found.round_trip[0]["solver"] == own


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n", "0"], "n=0"),
        (["--solver", "dopri5"], "is adaptive; type one with fixed steps"),
        (["--depths", "0"], "depths=(0.0,)"),
        (["--trip-steps", "0"], "trip_steps=(0,)"),
    ],
)
def test_what_cannot_be_is_one_line(
    address: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "diagnose", address, "--data", "digits", *arguments, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_data_must_be_given(address: str) -> None:
    with pytest.raises(UserError, match="data is required"):
        diagnose(address)
