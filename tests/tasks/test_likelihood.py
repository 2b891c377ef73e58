"""Likelihood as a run: its numbers are those of the mathematics, whatever the batch, and a stop loses no part."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bothways import likelihood, load_flow, load_images
from bothways.numerics.solvers import Solver
from bothways.registry import load_attribute
from bothways.representation.likelihood import Integration, bits_per_dim
from bothways.runs import RunFolder
from bothways.tasks.likelihood import run as likelihood_run
from bothways.tasks.likelihood.config import LikelihoodConfig
from bothways.tasks.likelihood.run import integration_of
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from command import refused, run
from small_flow import write_small_flow, write_solver


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_flow(tmp_path_factory.mktemp("flow"), channel_order="grey"))


def test_bits_are_those_of_the_room_and_of_no_batch(address: str) -> None:
    images = load_images("digits", split="test", limit=6).images.float() / 255
    truth = bits_per_dim(load_flow(address), images, range(6), Integration(steps=3, probes=2, divergence="hutchinson"))
    for batch in (2, 6):
        found = likelihood(address, "digits", limit=6, steps=3, probes=2, batch=batch, divergence="hutchinson")
        assert max(abs(a - b) for a, b in zip(found.bits, truth.bits.tolist(), strict=True)) < 1e-4
        assert (found.n, found.dims, found.calls) == (6, 64, 6)
        assert found.low < found.bits_per_dim < found.high
        assert found.measures["flow"]["likelihood"]["bits"] == found.bits


def test_a_likelihood_that_was_stopped_goes_on(address: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"limit": 6, "steps": 1, "batch": 2, "divergence": "hutchinson"}
    options = {**asked, "out": tmp_path / "run"}
    with closing(work_of("likelihood", address, "digits", **options).run()) as frames:
        next(frames)
    assert RunFolder.open(tmp_path / "run").status["state"] == "stopped"
    again: Any = work_of("likelihood", address, "digits", resume=True, **options)
    assert [part.name for part in again.left] == ["pictures 2", "pictures 4"]
    assert (again.done, again.steps) == (1, 3)
    whole = likelihood(address, "digits", **asked)
    assert perform(again).measures["flow"] == whole.measures["flow"]
    assert RunFolder.open(tmp_path / "run").status["state"] == "complete"


def test_a_solver_of_ones_own_gives_its_bits(address: str, tmp_path: Path) -> None:
    own = write_solver(tmp_path)
    asked: dict[str, Any] = {"limit": 2, "steps": 2, "divergence": "hutchinson"}
    midpoint = likelihood(address, "digits", solver="midpoint", **asked)
    solver = load_attribute(own, "solver")
    assert isinstance(solver, Solver)
    for given, name in ((own, own), (solver, "own-midpoint")):
        found = likelihood(address, "digits", solver=given, out=tmp_path / f"run-{len(name)}", **asked)
        assert found.bits == midpoint.bits
        assert found.solver == name
        assert RunFolder.open(tmp_path / f"run-{len(name)}").settings["settings"]["solver"] == name


def test_the_command_says_the_bits(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bits"
    asked = ["likelihood", address, "--data", "digits", "--limit", 3, "--steps", 2, "--divergence", "hutchinson"]
    assert run(*asked, "--out", out) == 0
    assert "bits/dim (" in capsys.readouterr().out
    assert RunFolder.open(out).settings["task"] == "likelihood"
    assert run(*asked, "--out", out) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(*asked, "--out", tmp_path / "dry", "--dry-run") == 0
    assert "3 pictures in 1 parts" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()
    assert run(*asked, "--out", out, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["flow"]["likelihood"]["n"] == 3


def test_the_whole_trace_is_taken_of_small_pictures(address: str) -> None:
    found = likelihood(address, "digits", limit=1, steps=1, solver="euler")
    assert (found.divergence, found.calls) == ("exact", 1)


@pytest.mark.parametrize(
    ("values", "pictures", "steps", "kind", "probes"),
    [
        (64, 500, 50, "hutchinson", 8),  # digits: the exact trace would be 3,200,000 products
        (64, 5, 50, "exact", 8),
        (1, 500, 50, "exact", 8),
        (3072, 1, 10, "exact", 1),
        (3072, 500, 50, "hutchinson", 1),
        (192, 500, 50, "hutchinson", 2),
    ],
)
def test_the_exact_trace_is_taken_where_it_is_cheap(
    values: int, pictures: int, steps: int, kind: str, probes: int
) -> None:
    config = LikelihoodConfig(flow="f", data="d", steps=steps)
    how = integration_of(config, values, pictures)
    assert (how.divergence, how.probes) == (kind, probes)
    chosen = config.model_copy(update={"divergence": "exact", "probes": 3})
    assert integration_of(chosen, values, pictures) == Integration(steps=steps, divergence="exact", probes=3)


def test_more_probes_come_near_the_exact_trace_and_the_interval_holds_their_error(address: str) -> None:
    quick: dict[str, Any] = {"limit": 12, "steps": 4}
    exact, few = likelihood(address, "digits", **quick), likelihood(address, "digits", divergence="hutchinson", **quick)
    assert (exact.divergence, few.divergence) == ("exact", "hutchinson, 8 probes")
    assert abs(exact.bits_per_dim - few.bits_per_dim) < (few.high - few.low) / 2


def test_the_exact_trace_tells_its_time_before_it_starts(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["likelihood", address, "--data", "digits", "--limit", 2, "--steps", 1, "--out"]
    assert run(*own, tmp_path / "short") == 0
    assert "exact trace takes" not in capsys.readouterr().out
    monkeypatch.setattr(likelihood_run, "SOON", 0.0)
    assert run(*own, tmp_path / "long") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.match(r"the exact trace takes about \d+ minutes; --divergence hutchinson estimates it", first)
    assert run(*own, tmp_path / "other", "--divergence", "hutchinson") == 0
    assert "exact trace takes" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--solver", "eulr"], "type euler"),
        (["--solver", "dopri"], "dopri5"),
        (["--divergence", "some"], "hutchinson"),
        (["--limit", "0"], "limit=0"),
        (["--batch", "0"], "batch=0"),
        (["--probes", "0"], "probes=0"),
        (["--tolerance", "0"], "tolerance=0.0"),
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
    assert "Statistics during" not in page


def test_a_tolerance_that_cannot_be_kept_is_one_line(address: str, tmp_path: Path, capsys: Any) -> None:
    asked = ["--data", "digits", "--limit", 1, "--solver", "dopri5", "--tolerance", "1e-30"]
    assert run("likelihood", address, *asked, "--divergence", "hutchinson", "--out", tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert "raise the tolerance (1e-30)" in said
    assert said.count("\n") == 1
