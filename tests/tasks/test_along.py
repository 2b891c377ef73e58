"""What is measured along a training: the indicator of the flow as it was then, the same after a stop or a kill."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bothways import UserError, finetune, load_classifier, load_flow, load_images, pretrain
from bothways.numerics.draws import generator, picture_seed
from bothways.report import render
from bothways.representation.information import Information, mutual_information_indicator
from bothways.representation.likelihood import Integration, log_density
from bothways.runs import RunFolder
from bothways.tasks.pretrain.run import PretrainWork
from bothways.tasks.shelf import work_of
from bothways.tasks.training import TrainingWork
from bothways.training import along
from bothways.training.along import DEPTHS
from colours import noise, write_pictures
from command import refused
from small_flow import OPTIONS, write_small_flow

pytestmark = pytest.mark.usefixtures("_rough_samples")

SEED = 1_000_003
N = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flow/, colours/ in one folder a class, and tiny.toml."""
    folder = tmp_path_factory.mktemp("along")
    write_small_flow(folder / "flow", size=4)
    write_pictures(folder / "colours", noise(20))
    return folder


def tuned(place: Path, **others: Any) -> dict[str, Any]:
    asked = {"flow": place / "flow", "data": place / "colours", "seed": 3, "validation": 5, "batch": 5, "steps": 1}
    plain = {"crop": 0, "flip": False}
    fit = {"train_steps": 6, "rate": 1e-2, "average": 0.5, "workers": 0, "save_every": 4}
    return {**asked, **fit, **plain, "information": N, **others}


def pretrained(place: Path, **others: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "data": place / "colours",
        "recipe": "icfm",
        "network": OPTIONS,
        "validation": 5,
        "batch": 5,
    }
    return {**asked, "steps": 4, "average": 0.5, "workers": 0, "information": N, **others}


def begun(task: str, asked: dict[str, Any], out: Path) -> TrainingWork:
    work = work_of(task, **asked, out=out)
    assert isinstance(work, TrainingWork)
    return work


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A fine-tuning that was not stopped."""
    finetune(**tuned(place), out=place / "whole")
    return place / "whole"


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "along.jsonl").read_text().splitlines()]


def directly(flow: Any, place: Path, seed: int) -> list[Information]:
    """The indicator of a flow as it was loaded, on the first pictures that are held out."""
    data = load_images(place / "colours")
    images = data.images[torch.randperm(20, generator=generator(seed, 0, "validation"))[:N]].float() / 255
    seeds = [picture_seed(SEED, index) for index in range(N)]
    return mutual_information_indicator(flow, flow.path, flow.code(images), seeds)


def agrees(told: list[dict[str, Any]], curve: list[Information]) -> None:
    """Between the two points of the curve on either side, by their share of log(1 + snr)."""
    assert [row["depth"] for row in told] == list(DEPTHS)
    for row in told:
        high = next(place for place, point in enumerate(curve) if point.depth <= row["depth"])
        far, near = curve[high - 1], curve[high]
        levels = [torch.tensor(snr, dtype=torch.float64).log1p() for snr in (far.snr, row["snr"], near.snr)]
        share = ((levels[1] - levels[0]) / (levels[2] - levels[0])).item()
        assert 0 <= share <= 1
        for name in ("nats_per_dim", "low", "high", "mmse"):
            wanted = (1 - share) * asdict(far)[name] + share * asdict(near)[name]
            assert abs(row[name] - wanted) < 1e-6, name  # the flow's own rounding, in another layout of memory
        assert row["n"] == N


# ---- the lines are true --------------------------------------------------------------------------------------------


def test_a_line_is_the_indicator_of_the_weights_of_then(place: Path, whole: Path) -> None:
    found = lines(whole)
    assert [line["step"] for line in found] == [0, 4, 6]
    agrees(found[0]["information"], directly(load_flow(place / "flow"), place, 3))
    agrees(found[-1]["information"], directly(load_classifier(whole).module.flow, place, 3))
    nats = [[row["nats_per_dim"] for row in line["information"]] for line in found]
    assert nats[0] != nats[1] != nats[2]
    assert all(a > b > 0 for a, b in zip(nats[0], nats[0][1:], strict=False))  # nearer to the picture, more is known


def test_the_loss_beside_it_is_of_the_same_pictures(place: Path, whole: Path) -> None:
    """Written out: the same noise and times for every line, pictures dequantised."""
    data, source = load_images(place / "colours"), generator(SEED, 0, "pairs")
    held = data.images[torch.randperm(20, generator=generator(3, 0, "validation"))[:N]].float()
    x = 2 * (held + torch.rand(held.shape, generator=source)) / 256 - 1
    noise = torch.randn(x.shape, generator=source)
    t = (torch.arange(N) + torch.rand(N, generator=source)) / N
    mixed = t.view(-1, 1, 1, 1) * x + (1 - t.view(-1, 1, 1, 1)) * noise
    for line, flow in ((0, load_flow(place / "flow")), (-1, load_classifier(whole).module.flow)):
        with torch.no_grad():
            wanted = (flow(mixed, t) - (x - noise)).square().sum(1).mean().item() / 2
        assert abs(lines(whole)[line]["flow_matching"] - wanted) < 1e-5


def test_a_pretraining_has_its_lines_too(place: Path, tmp_path: Path) -> None:
    pretrain(**pretrained(place, save_every=2), out=tmp_path / "out")
    found = lines(tmp_path / "out")
    assert [line["step"] for line in found] == [0, 2, 4]
    agrees(found[-1]["information"], directly(load_flow(tmp_path / "out"), place, 0))
    work = begun("pretrain", pretrained(place), tmp_path / "first")
    assert isinstance(work, PretrainWork)
    agrees(found[0]["information"], directly(work.planned.flow.eval(), place, 0))


@pytest.mark.slow
def test_prgs_indicator_is_that_of_the_weights_of_then(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the bound, on a number of pictures of its own; the loss is of the larger number."""
    assert Integration("midpoint", 25, "hutchinson", probes=2) == along.WALKED
    how = replace(along.WALKED, steps=5)
    monkeypatch.setattr(along, "WALKED", how)
    pretrain(**pretrained(place, save_every=2, information=2, given_noise=4), out=tmp_path / "out")
    found = lines(tmp_path / "out")
    assert [line["step"] for line in found] == [0, 2, 4]
    assert all((line["n"], line["information"][0]["n"], line["given_noise"]["n"]) == (4, 2, 4) for line in found)
    assert found[0]["given_noise"]["nats_per_dim"] == 0  # the last layer is zero, so nothing moves at first
    held = load_images(place / "colours").images[torch.randperm(20, generator=generator(0, 0, "validation"))[:4]]
    flow = load_flow(tmp_path / "out")
    seeds = [picture_seed(SEED, index) for index in range(4)]
    wanted = log_density(flow, flow.code(held.float() / 255), seeds, how).log_det / 48
    assert abs(found[-1]["given_noise"]["nats_per_dim"] - wanted.mean().item()) < 1e-5
    assert found[-1]["given_noise"]["low"] < found[-1]["given_noise"]["high"]
    page = render([RunFolder.open(tmp_path / "out")])
    assert "log p(picture | its noise) on held-out pictures" in page
    alone = tuned(place, information=0, given_noise=3, train_steps=1)
    finetune(**alone, out=tmp_path / "tuned")
    assert ["information" in line for line in lines(tmp_path / "tuned")] == [False, False]
    assert [line["n"] for line in lines(tmp_path / "tuned")] == [3, 3]


def test_to_measure_changes_nothing_of_the_training(place: Path, whole: Path, tmp_path: Path) -> None:
    done = finetune(**tuned(place, information=None), out=tmp_path / "out")
    for name in ("classifier.safetensors", "frames.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "out" / "along.jsonl").exists()
    assert done.folder.settings["settings"]["holdout"]["information"] == 0


# ---- stopped and resumed -------------------------------------------------------------------------------------------


def test_a_stop_adds_no_line_and_a_resume_none_twice(place: Path, whole: Path, tmp_path: Path) -> None:
    frames = begun("finetune", tuned(place), tmp_path / "out").run()
    for _ in range(5):
        next(frames)
    frames.close()  # at step 5, where a checkpoint is written that was not planned
    assert [line["step"] for line in lines(tmp_path / "out")] == [0, 4]
    assert "Bound on mutual information on held-out pictures" in render([RunFolder.open(tmp_path / "out")])
    finetune(**tuned(place), out=tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "along.jsonl").read_bytes() == (whole / "along.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"settings\.holdout\.information was 3"):
        finetune(**tuned(place, information=2), out=tmp_path / "out", resume=True)
    finetune(**tuned(place), out=tmp_path / "out", resume=True)  # complete, it stays as it is
    assert (tmp_path / "out" / "along.jsonl").read_bytes() == (whole / "along.jsonl").read_bytes()


@pytest.mark.parametrize(("until", "left"), [(3, b'{"step": 0, "n'), (5, b'{"step": 6, "n": 3}\n{"step')])
def test_after_a_kill_the_lines_are_made_again_to_the_bit(
    place: Path, whole: Path, tmp_path: Path, until: int, left: bytes
) -> None:
    """Killed before the first checkpoint, while the first line was written; and after it, with a later line there."""
    work = begun("finetune", tuned(place), tmp_path / "out")
    frames = work.run()
    for _ in range(until):
        next(frames)
    work.training.saved = work.done  # so that closing writes no checkpoint
    frames.close()
    file = tmp_path / "out" / "along.jsonl"
    file.write_bytes(left if until == 3 else file.read_bytes() + left)
    again = begun("finetune", tuned(place, resume=True), tmp_path / "out")
    assert again.done == (0 if until == 3 else 4)
    list(again.run())
    again.finish()
    assert file.read_bytes() == (whole / "along.jsonl").read_bytes()


def test_overwriting_removes_the_lines(place: Path, tmp_path: Path) -> None:
    list(begun("pretrain", pretrained(place, steps=1), tmp_path / "out").run())
    assert len(lines(tmp_path / "out")) == 2
    begun("pretrain", pretrained(place, information=None, overwrite=True), tmp_path / "out")
    assert not (tmp_path / "out" / "along.jsonl").exists()


# ---- shown and refused ---------------------------------------------------------------------------------------------


def test_the_page_shows_them(whole: Path) -> None:
    page = render([RunFolder.open(whole)])
    assert "Bound on mutual information on held-out pictures" in page
    assert "loss on held-out pictures" in page
    assert "depth 0.75" in page


@pytest.mark.parametrize(("pictures", "says"), [("6", "type --information 5"), ("-1", "information=-1")])
def test_more_pictures_than_are_held_out_are_refused(
    place: Path, tmp_path: Path, capsys: Any, pictures: str, says: str
) -> None:
    own = ("--data", place / "colours", "--validation", "5", "--batch", "5", "--out", tmp_path / "out")
    for command in (("finetune", place / "flow"), ("pretrain", "icfm")):
        assert says in refused(capsys, *command, *own, "--information", pictures)
        told = says.replace("information", "given-noise").replace("given-noise=", "given_noise=")
        assert told in refused(capsys, *command, *own, "--given-noise", pictures)
    assert not (tmp_path / "out").exists()


# ---- copies that are kept ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_copies_along_the_way_are_the_weights_of_then_and_addresses(place: Path, tmp_path: Path) -> None:
    """A shorter run at a constant rate ends with the copy's weights; a stop and a resume leave the same copies."""
    steady = {"schedule": "constant", "warmup": 0.0}
    whole = pretrain(**pretrained(place, **steady, keep_every=2, information=None), out=tmp_path / "whole").folder
    short = pretrain(**pretrained(place, **steady, steps=2, information=None), out=tmp_path / "short").folder
    assert sorted(path.name for path in whole.path.glob("step-*")) == ["step-2", "step-4"]
    for copy, run in (("step-2", short), ("step-4", whole)):
        assert (whole.path / copy / "flow.safetensors").read_bytes() == (run.path / "flow.safetensors").read_bytes()
    x, t = torch.rand(2, 3, 4, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        assert torch.equal(load_flow(whole.path / "step-2")(x, t), load_flow(short.path)(x, t))
    frames = begun("pretrain", pretrained(place, **steady, keep_every=2, information=None), tmp_path / "again").run()
    for _ in range(3):
        next(frames)
    frames.close()
    pretrain(**pretrained(place, **steady, keep_every=2, information=None), out=tmp_path / "again", resume=True)
    for name in ("step-2", "step-4"):
        wanted = (whole.path / name / "flow.safetensors").read_bytes()
        assert (tmp_path / "again" / name / "flow.safetensors").read_bytes() == wanted
    finetune(**tuned(place, flow=whole.path / "step-2", keep_every=3, information=None), out=tmp_path / "tuned")
    assert load_classifier(tmp_path / "tuned" / "step-3").spec.count == 2
    work = begun("pretrain", pretrained(place, information=None, overwrite=True), tmp_path / "again")
    assert not list(work.experiment.folder.path.glob("step-*"))
