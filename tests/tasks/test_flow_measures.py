"""Likelihood and diagnosis as runs: their numbers are the room's own, whatever the batch, and a stop loses no part."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bothways import UserError, decode, diagnose, encode, likelihood, load_flow, load_images
from bothways.representation.encode import Walk, walk
from bothways.representation.likelihood import Integration, bits_per_dim
from bothways.runs import RunFolder
from bothways.tasks.diagnose.run import prepare_diagnose, prepare_likelihood
from command import refused, run
from small_flow import write_small_flow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_flow(tmp_path_factory.mktemp("flow"), channel_order="grey"))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bothways.tasks.diagnose.run.ROUND_TRIP_STEPS", (2,))
    monkeypatch.setattr("bothways.tasks.diagnose.run.DEPTHS", (0.5, 1.0))


def test_bits_are_those_of_the_room_and_of_no_batch(address: str) -> None:
    images = load_images("digits", split="test", limit=6).images.float() / 255
    truth = bits_per_dim(load_flow(address), images, range(6), Integration(steps=3, probes=2, divergence="hutchinson"))
    for batch in (2, 6):
        found = likelihood(address, "digits", limit=6, steps=3, probes=2, batch=batch, divergence="hutchinson")[
            "likelihood"
        ]
        assert max(abs(a - b) for a, b in zip(found["bits"], truth.bits.tolist(), strict=True)) < 1e-4
        assert (found["n"], found["dims"], found["calls"]) == (6, 64, 6)
        assert found["low"] < found["bits_per_dim"] < found["high"]


def test_a_likelihood_that_was_stopped_goes_on(address: str, tmp_path: Path) -> None:
    asked = {"limit": 6, "steps": 1, "batch": 2, "divergence": "hutchinson"}
    options = {**asked, "out": tmp_path / "run"}
    with closing(prepare_likelihood(address, "digits", **options).run()) as frames:
        next(frames)
    assert RunFolder.open(tmp_path / "run").status["state"] == "stopped"
    again = prepare_likelihood(address, "digits", resume=True, **options)
    assert [name for name, _ in again.left] == ["pictures 2", "pictures 4"]
    assert again.whole() == likelihood(address, "digits", **asked)
    assert RunFolder.open(tmp_path / "run").status["state"] == "complete"


def test_a_diagnosis_has_every_part_and_shows_them(address: str, tmp_path: Path) -> None:
    out = tmp_path / "diagnosis"
    assert run("diagnose", address, "--data", "digits", "--n", 4, "--steps", 4, "--out", out) == 0
    found = RunFolder.open(out).measures["flow"]
    assert set(found) == {"straightness", "round_trip", "gain", "information", "strips", "strip_depths"}
    assert [entry["depth"] for entry in found["round_trip"]] == [0.5, 1.0]
    assert [entry["depth"] for entry in found["gain"]] == [0.5, 1.0]
    assert len(list((out / "images").glob("strip-*.png"))) == 4
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") >= 4
    assert "traightness" in page


def test_a_diagnosis_that_was_stopped_goes_on(address: str, tmp_path: Path) -> None:
    options = {"n": 2, "steps": 2, "out": tmp_path / "run"}
    with closing(prepare_diagnose(address, "digits", **options).run()) as frames:
        for place, _ in enumerate(frames):
            if place == 2:
                break
    again = prepare_diagnose(address, "digits", resume=True, **options)
    assert len(again.parts) - len(again.left) == 3
    found, whole = again.whole(), diagnose(address, "digits", n=2, steps=2)
    assert {name: value for name, value in found.items() if "strip" not in name} == whole


def test_the_likelihood_command_says_the_bits(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bits"
    asked = ["likelihood", address, "--data", "digits", "--limit", 3, "--steps", 2, "--out", out]
    assert run(*asked) == 0
    assert "bits/dim (" in capsys.readouterr().out
    assert run(*asked) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--solver", "eulr"], "dopri5"),
        (["--divergence", "some"], "hutchinson"),
        (["--limit", "0"], "1 or more"),
        (["--batch", "0"], "--batch 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    address: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "likelihood", address, "--data", "digits", *arguments, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.filterwarnings("default")  # the command line shows them as notes
def test_what_the_flow_does_not_see_of_the_pictures_is_said(address: str, tmp_path: Path, capsys: Any) -> None:
    for index in range(3):
        pixels = torch.randint(0, 256, (10, 16, 3), generator=torch.Generator().manual_seed(index)).byte()
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{index}.png")
    asked = ["--data", tmp_path, "--limit", 2, "--steps", 1, "--divergence", "hutchinson"]
    assert run("likelihood", address, *asked, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "pictures of 10x16 pixels are resized and cut to the flow's 8x8" in said
    assert "in colour: the flow is grey" in said
    page = (tmp_path / "run" / "report.html").read_text().split("<script>")[0]
    assert "likelihood measured " in page
    assert "trained" not in page.split("</header>")[0]
    assert "While it was" not in page


def test_a_tolerance_that_cannot_be_kept_is_one_line(address: str, tmp_path: Path, capsys: Any) -> None:
    asked = ["--data", "digits", "--limit", 1, "--solver", "dopri5", "--tolerance", "1e-30"]
    assert run("likelihood", address, *asked, "--divergence", "hutchinson", "--out", tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert "raise the tolerance (1e-30)" in said
    assert said.count("\n") == 1


def test_encode_takes_an_address_a_flow_or_a_callable(address: str) -> None:
    images = load_images("digits", split="test", limit=3).images.float() / 255
    flow = load_flow(address)
    truth = walk(flow, flow.code(images), 1.0, 0.5, Walk(steps=4))
    assert (encode(address, images, steps=4) - truth).abs().max() < 1e-6
    assert (encode(lambda x, t: flow(x, t), flow.code(images), steps=4) - truth).abs().max() < 1e-6
    whole = encode(address, images.double(), steps=4, solver="reversible-heun", whole=True, dtype=torch.float64)
    back = decode(address, whole, steps=4, solver="reversible-heun", dtype=torch.float64)
    assert (back - images).abs().max() < 1e-12
    with pytest.raises(UserError, match="depth"):
        encode(address, images, depth=2.0)
