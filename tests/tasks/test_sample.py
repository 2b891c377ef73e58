"""Sampling: the pictures of the solver's own numbers, seeds that belong to pictures, resume, and refusals."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchdiffeq import odeint

from bothways import UserError, load_flow, sample
from bothways.numerics.draws import Draws
from bothways.runs import RunFolder
from bothways.tasks.shelf import work_of
from command import refused, run
from small_flow import small_unet, write_small_flow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_flow(tmp_path_factory.mktemp("flow")))


def test_the_pictures_are_those_of_another_solver(address: str) -> None:
    flow = load_flow(address)
    noise = Draws(range(2)).normal((3, 8, 8))
    with torch.no_grad():
        times = torch.linspace(0, 1, 11)
        walked = odeint(lambda t, x: flow(x, t.expand(len(x))), noise, times, method="euler")[-1]
    truth = flow.picture(walked).clamp(0, 1)
    assert truth.std() > 0.1
    assert (sample(address, 2, steps=10, solver="euler").images - truth).abs().max() < 1 / 255


@pytest.mark.parametrize("order", ["RGB", "grey"])
def test_a_picture_belongs_to_its_seed_in_any_batch(tmp_path: Path, order: str) -> None:
    flow = load_flow(write_small_flow(tmp_path / "flow", channel_order=order))
    whole = sample(flow, 5, steps=3, seed=4).images
    assert (sample(flow, 5, steps=3, seed=4, batch=2).images - whole).abs().max() < 1.5 / 255
    assert (sample(flow, 5, steps=3, seed=5).images - whole).abs().max() > 0.1
    assert (whole[:, :1] == whole).all() == (order == "grey")


def test_a_run_that_was_cut_short_goes_on_to_the_same_pictures(address: str, tmp_path: Path) -> None:
    options = {"steps": 3, "batch": 2, "out": tmp_path / "run"}
    with closing(work_of("sample", address, 5, **options).run()) as frames:
        for place, _ in enumerate(frames):
            if place == 4:  # in the midst of the second batch
                break
    assert RunFolder.open(tmp_path / "run").status["state"] == "stopped"
    frames_left = []
    again = sample(address, 5, resume=True, on_frame=frames_left.append, **options)
    assert len(frames_left) == 6
    assert torch.equal(again.images, sample(address, 5, steps=3, batch=2).images)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.status["state"] == "complete"
    assert [record["index"] for record in folder.pictures] == list(range(5))


def test_the_command_writes_a_report(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn"
    assert run("sample", address, "--n", 3, "--steps", 2, "--out", out) == 0
    assert len(list((out / "images").glob("*.png"))) == 3
    assert (out / "report.html").read_text().count("data:image/png") >= 3
    assert "3 pictures" in capsys.readouterr().out
    assert run("sample", address, "--n", 3, "--steps", 2, "--out", out) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-flow"], "no-such-flow"),
        (["ADDRESS", "--steps", "0"], "steps=0"),
        (["ADDRESS", "--n", "0"], "n=0"),
        (["ADDRESS", "--data", "digits"], "type --judge"),
        (["ADDRESS", "--solver", "eulr"], "type euler"),
    ],
)
def test_what_cannot_be_is_one_line(
    address: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [address if a == "ADDRESS" else a for a in arguments]
    assert said in refused(capsys, "sample", *typed, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_run_does_not_go_on_with_other_weights(tmp_path: Path) -> None:
    place = write_small_flow(tmp_path / "flow")
    options = {"steps": 1, "batch": 1, "out": tmp_path / "run"}
    with closing(work_of("sample", str(place), 2, **options).run()) as frames:
        next(frames)
    assert work_of("sample", str(place), 2, resume=True, **options).steps == 2
    save_file(small_unet(seed=1).state_dict(), place / "flow.safetensors")
    with pytest.raises(UserError, match=r"model\.weights was"):
        work_of("sample", str(place), 2, resume=True, **options)


def test_who_looks_on_may_ask_for_gradients(address: str) -> None:
    seen = []
    sample(address, 1, steps=1, solver="reversible-heun", on_frame=lambda frame: seen.append(torch.is_grad_enabled()))
    assert seen == [True]


def test_noise_is_asked_for_in_the_flows_channels(address: str) -> None:
    with pytest.raises(UserError, match="batch"):
        sample(address, 2, batch=0)
