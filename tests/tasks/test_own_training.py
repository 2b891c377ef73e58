"""Training of one's own: initial weights of another flow, more steps, accuracies underway, the best step, trackers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bothways import UserError, finetune, load_classifier, load_flow, load_images, pretrain
from bothways.numerics.draws import generator
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.probes import linear
from bothways.report import render
from bothways.representation.activations import activations, middle_layer
from bothways.runs import RunFolder
from bothways.tasks.shelf import work_of
from bothways.tasks.training import TrainingWork
from bothways.training.best import best_step
from bothways.training.checkpoint import CHECKPOINT
from colours import noise, write_pictures
from command import refused, run
from small_flow import OPTIONS, small_unet, write_small_flow

pytestmark = pytest.mark.usefixtures("_rough_samples")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flow/, colours/ in one folder a class, and plain/ without classes."""
    folder = tmp_path_factory.mktemp("own")
    write_small_flow(folder / "flow", size=4)
    pictures = noise(30)
    for index, pixels in enumerate(pictures):
        pixels[..., index % 2] //= 3
    write_pictures(folder / "colours", pictures)
    write_pictures(folder / "plain", pictures, classes=())
    return folder


def asked(place: Path, **others: Any) -> dict[str, Any]:
    plain = {"recipe": "icfm", "network": OPTIONS, "validation": 12, "batch": 5, "steps": 4, "average": 0.5}
    return {"data": place / "colours", "workers": 0, **plain, **others}


def tuned(place: Path, **others: Any) -> dict[str, Any]:
    plain = {"crop": 0, "flip": False, "validation": 12, "batch": 5, "steps": 1, "train_steps": 6, "workers": 0}
    given = {"flow": place / "flow", "data": place / "colours", "rate": 1e-2, "average": 0.5}
    return {**given, **plain, **others}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "along.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "flow.safetensors")


# ---- initial weights of another flow -------------------------------------------------------------------------------


def test_a_warm_start_begins_with_the_weights_of_the_other(place: Path, tmp_path: Path) -> None:
    work = work_of("pretrain", **asked(place, init=place / "flow"), out=tmp_path / "run")
    assert isinstance(work, TrainingWork)
    began, given = work.training.state.network.network.state_dict(), small_unet().state_dict()
    assert began.keys() == given.keys()
    assert all(torch.equal(value, given[name]) for name, value in began.items())
    average = work.training.state.result.network.state_dict()  # it begins there too, not at random weights
    assert all(torch.equal(value, given[name]) for name, value in average.items())
    n = len(given)
    assert work.opening() == f"initial weights: {n} of {n} tensors (100.0% of all numbers) from {place / 'flow'}"
    assert json.loads((tmp_path / "run" / "flow.json").read_text())["initial"] == work.opening()


def test_what_fits_by_name_and_shape_is_taken_and_the_rest_is_named(place: Path, tmp_path: Path) -> None:
    wider = {**OPTIONS, "multiples": [1, 3]}
    work = work_of("pretrain", **asked(place, init=place / "flow", network=wider), out=tmp_path / "run")
    fresh = work_of("pretrain", **asked(place, network=wider), out=tmp_path / "fresh")
    assert isinstance(work, TrainingWork)
    assert isinstance(fresh, TrainingWork)
    given, taken = small_unet().state_dict(), 0
    before = fresh.training.state.network.network.state_dict()
    for name, value in work.training.state.network.network.state_dict().items():
        fits = name in given and given[name].shape == value.shape
        taken += fits
        assert torch.equal(value, given[name] if fits else before[name]), name
    line = work.opening()
    assert 0 < taken < len(before)
    assert line.startswith(f"initial weights: {taken} of {len(before)} tensors (")
    assert "; new, of another shape: " in line
    assert "\n" not in line


def test_a_warm_start_needs_its_flow_no_more_once_it_has_begun(place: Path, tmp_path: Path) -> None:
    pretrain(**asked(place), out=tmp_path / "first")
    whole = pretrain(**asked(place, init=tmp_path / "first", seed=1), out=tmp_path / "whole")
    work = work_of("pretrain", **asked(place, init=tmp_path / "first", seed=1), out=tmp_path / "part")
    frames = work.run()
    next(frames)
    frames.close()
    card = json.loads((tmp_path / "part" / "flow.json").read_text())
    assert len(card["trained_on"]) == 2  # the pictures that the other flow was trained on are those of this one too
    for file in (tmp_path / "first").glob("flow.*"):
        file.unlink()
    pretrain(resume=True, out=tmp_path / "part")
    assert all(
        torch.equal(value, weights(tmp_path / "part")[name]) for name, value in weights(whole.folder.path).items()
    )
    assert json.loads((tmp_path / "part" / "flow.json").read_text()) == card


def test_a_flow_of_which_nothing_fits_is_one_line(place: Path, tmp_path: Path, capsys: Any) -> None:
    typed = ["pretrain", "--data", place / "colours", "--validation", 5, "--batch", 5, "--steps", 1]
    said = refused(capsys, *typed, "--net", "points", "--size", 1, "--init", place / "flow", "--out", tmp_path / "no")
    assert "none of its tensors has a name and shape of the network's" in said
    assert not (tmp_path / "no").exists()
    assert "is not known" in refused(capsys, *typed, "--init", "runs/none", "--out", tmp_path / "no")


# ---- more steps ----------------------------------------------------------------------------------------------------


def test_a_run_prolonged_at_a_constant_rate_is_the_longer_run(place: Path, tmp_path: Path, recwarn: Any) -> None:
    constant = {"schedule": "constant", "warmup": 0.0, "average": 0.9}
    pretrain(**asked(place, steps=8, **constant), out=tmp_path / "whole")
    pretrain(**asked(place, steps=3, **constant), out=tmp_path / "part")
    pretrain(resume=True, steps=8, out=tmp_path / "part")
    assert [str(w.message) for w in recwarn if "learning rate" in str(w.message)] == []
    one, other = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "part"))
    for key in ("network", "average"):
        assert all(torch.equal(value, other[key][name]) for name, value in one[key].items())
    frames = [RunFolder.open(tmp_path / name).frames for name in ("whole", "part")]
    assert frames[0] == frames[1]


# ---- accuracies underway -------------------------------------------------------------------------------------------


def held(place: Path, seed: int = 0) -> Any:
    data = load_images(place / "colours")
    return data.subset(torch.randperm(30, generator=generator(seed, 0, "validation"))[:12])


def test_the_accuracy_underway_is_that_of_the_weights_of_then(place: Path, tmp_path: Path) -> None:
    made = finetune(**tuned(place, accuracy_every=2, save_every=3, keep_every=2), out=tmp_path / "run")
    found = {line["step"]: line["accuracy"] for line in lines(tmp_path / "run")}
    assert list(found) == [0, 2, 4, 6]
    pictures = held(place)
    for step in (2, 4, 6):
        folder = tmp_path / "run" / (f"step-{step}" if step < 6 else "")
        logits = load_classifier(folder).outputs(pictures.floats())
        right = int((logits.argmax(1) == pictures.labels).sum())
        low, high = wilson_interval(right, 12)
        assert found[step] == {"value": right / 12, "low": low, "high": high, "n": 12}
    assert made.measures["classifier"]["accuracy"] == found[6]["value"]
    assert "Accuracy on held-out pictures during the training" in render([RunFolder.open(tmp_path / "run")])


def test_measuring_changes_nothing_of_the_training(place: Path, tmp_path: Path) -> None:
    plain = finetune(**tuned(place), out=tmp_path / "plain").model
    looked = finetune(**tuned(place, accuracy_every=1, keep_best=True), out=tmp_path / "looked").model
    images = held(place).floats()
    assert torch.equal(plain.outputs(images), looked.outputs(images))


def test_a_probe_is_fitted_on_half_of_the_held_out_pictures_and_tested_on_the_rest(place: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    out = tmp_path / "run"
    pretrain(**asked(place, probe_every=2), out=out, on_frame=lambda frame: seen.append(dict(frame.stats)))
    assert [line["step"] for line in lines(out)] == [0, 2, 4]
    flow, pictures = load_flow(out), held(place)
    layer = middle_layer(flow)
    rows = activations(flow, flow.code(pictures.floats()), 0.1, (layer,), path=flow.path)[layer].detach()
    predicted = linear(rows[::2], pictures.labels[::2], rows[1::2]).predictions
    right = int((predicted == pictures.labels[1::2]).sum())
    assert lines(out)[-1]["probe"]["value"] == right / 6
    assert lines(out)[-1]["probe"]["n"] == 6
    assert [("held-out probe" in stats) for stats in seen] == [False, True, False, True]
    assert "Linear probe during the training" in render([RunFolder.open(out)])


def test_a_probe_without_labels_is_one_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--probe-every: data .* has no labels"):
        pretrain(**asked(place, data=place / "plain", probe_every=2), out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


# ---- the best step -------------------------------------------------------------------------------------------------


def test_the_best_is_the_earliest_of_the_highest_accuracy_or_lowest_loss() -> None:
    rows = [(0, 0.9), (1, 0.5), (2, 0.8), (3, 0.8), (4, 0.1)]
    found = [{"step": step, "accuracy": {"value": value}, "flow_matching": value} for step, value in rows]
    assert best_step(found, "accuracy") == (2, 0.8)
    assert best_step(found, "flow_matching") == (4, 0.1)
    assert best_step(found[:1], "accuracy") is None  # the initial weights are no result of the training
    assert best_step([{"step": 3, "flow_matching": None}], "flow_matching") is None


def test_the_best_flow_is_kept_as_an_address(place: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    pretrain(**asked(place, keep_best=True, save_every=1, keep_every=1, rate=0.5, clip=0.0, steps=5), out=out)
    found = {line["step"]: line["flow_matching"] for line in lines(out)}
    assert {line["n"] for line in lines(out)} == {12}  # the loss is of all pictures held out
    best = min(range(1, 6), key=lambda step: (found[step], step))
    kept, wanted = weights(out / "best"), weights(out / f"step-{best}")
    assert all(torch.equal(value, wanted[name]) for name, value in kept.items())
    assert load_flow(out / "best").spec.path == "linear"
    typed = ["pretrain", "--resume", "--out", out]
    assert run(*typed) == 0
    assert f"the lowest loss on held-out pictures is {found[best]:.4g}, of step {best}" in capsys.readouterr().out


def test_a_resumed_run_keeps_the_same_best(place: Path, tmp_path: Path) -> None:
    settings = tuned(place, keep_best=True, accuracy_every=1, save_every=2)
    finetune(**settings, out=tmp_path / "whole")
    work = work_of("finetune", **settings, out=tmp_path / "part")
    frames = work.run()
    for _ in range(3):
        next(frames)
    frames.close()
    finetune(resume=True, out=tmp_path / "part")
    one, other = (load_file(tmp_path / name / "best" / "classifier.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert lines(tmp_path / "whole") == lines(tmp_path / "part")


# ---- trackers and callbacks ----------------------------------------------------------------------------------------


class Wandb(ModuleType):
    """What accelerate's tracker uses of the library, kept in memory."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.began: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.config, self.finished = self, 0
        self.settings: dict[str, Any] = {}

    def init(self, **options: Any) -> Any:
        self.began.append(options)
        return self

    def update(self, values: dict[str, Any], **_: Any) -> None:
        self.settings.update(values)

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_wandb_has_the_numbers_of_every_step_offline(place: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("accelerate")
    library = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    made = finetune(**tuned(place, track="wandb", accuracy_every=3), out=tmp_path / "run")
    assert library.began[0]["mode"] == "offline"
    assert library.began[0]["name"] == "run"
    assert [step for step, _ in library.logged] == [1, 2, 3, 4, 5, 6]
    assert [values["loss"] for _, values in library.logged] == [frame.stats["loss"] for frame in made.frames]
    assert [step for step, values in library.logged if "held-out accuracy" in values] == [3, 6]
    assert library.settings["fit.rate"] == 1e-2
    assert library.finished == 1


def test_a_missing_tracker_and_an_unknown_one_are_one_line(
    place: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("bothways.training.trackers.find_spec", lambda name: None)
    typed = ["finetune", place / "flow", "--data", place / "colours", "--validation", 5, "--out", tmp_path / "no"]
    assert 'pip install "bothways[wandb]"' in refused(capsys, *typed, "--track", "wandb")
    assert "track" in refused(capsys, *typed, "--track", "tensorboard,mlflow")
    assert not (tmp_path / "no").exists()


def test_both_trackers_in_one_word(place: Path, tmp_path: Path) -> None:
    work = work_of("pretrain", **asked(place, track="tensorboard", tensorboard=True), out=tmp_path / "run")
    assert isinstance(work, TrainingWork)
    assert work.training.run.trackers == ("tensorboard",)
    config = type(work.training.run)(track=["tensorboard,wandb"])
    assert config.trackers == ("tensorboard", "wandb")


def test_a_callback_has_the_step_the_numbers_and_the_network(place: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    sums: list[float] = []

    def look(step: int, numbers: Any, network: torch.nn.Module) -> None:
        seen.append((step, numbers["loss"]))
        sums.append(sum(p.detach().double().sum().item() for p in network.network.parameters()))

    made = pretrain(**asked(place), out=tmp_path / "run", callbacks=[look])
    assert seen == [(frame.step, frame.stats["loss"]) for frame in made.frames]
    assert abs(sums[-1] - sum(v.double().sum().item() for v in weights(tmp_path / "run").values())) < 1e-9
    from bothways import evaluate

    with pytest.raises(UserError, match="trains nothing"):
        evaluate("bundled:cifar10-resnet", place / "colours", callbacks=[look])
