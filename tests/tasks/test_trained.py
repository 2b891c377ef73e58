"""A run knows which pictures it was trained on, and is measured on others; every task reads the split it is told."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import bothways
from bothways import UserError, curves, evaluate, features, finetune, likelihood, pretrain
from bothways.data.sources import load_images
from bothways.data.splits import evaluation_split, holdout
from bothways.data.trained import held_places
from bothways.models.classifiers import trained_on
from bothways.numerics.draws import generator
from bothways.tasks.held_out import to_measure
from bothways.tasks.shelf import work_of
from command import run
from toy_model import NAMES

pytestmark = pytest.mark.usefixtures("_rough_samples")

SIDE, HELD = 8, 6
QUICK: dict[str, Any] = {"workers": 0, "batch": 4, "validation": HELD}
TUNED: dict[str, Any] = {"train_steps": 1, "steps": 1, "crop": 0, "flip": False, **QUICK}
CLASSES = ("coal", "dusk", "milk")
TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


def write(folder: Path, classes: tuple[str, ...] = CLASSES, each: int = 7, size: int = SIDE, seed: int = 0) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(each):
            noise = torch.randint(0, 256, (size, size, 3), generator=generator(seed, k, name)).byte()
            Image.fromarray(noise.numpy()).save(folder / name / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/, 21 pictures and a torn one; flow/ and run/, a pretraining and a fine-tuning on it."""
    place = tmp_path_factory.mktemp("trained")
    write(place / "data")
    (place / "data" / "coal" / "1torn.png").write_bytes(b"torn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pretrain(place / "data", net="unet-tiny", out=place / "flow", steps=1, **QUICK)
        finetune(place / "flow", place / "data", out=place / "run", **TUNED)
    return place


@pytest.fixture
def held(place: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures in [0,1] that were held out, and their labels, in the order of the folder."""
    with pytest.warns(UserWarning, match="1 unreadable"):
        everything = load_images(place / "data")
    out, _ = holdout(everything, HELD, 0)
    order = out.places.argsort()
    return out.images[order] / 255, out.labels[order]


def test_an_evaluation_takes_what_was_held_out(place: Path, held: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.warns(UserWarning, match=r"run was trained on 15 of the 22 pictures of .*"):
        found = evaluate(place / "run", place / "data")
    images, labels = held
    with torch.no_grad():
        log_p = bothways.load_classifier(place / "run").outputs(images).double().log_softmax(1)
    assert (found["data"]["split"], found["clean"]["n"]) == ("held-out", HELD)
    assert abs(found["clean"]["nll"] + log_p.gather(1, labels[:, None]).mean().item()) < 1e-5
    assert found["skipped"] == {}


def test_it_takes_all_where_that_is_typed_and_says_so(place: Path) -> None:
    with pytest.warns(UserWarning, match="run was trained on 15 of these 22 pictures; --split held-out takes"):
        found = evaluate(place / "run", place / "data", split="train")
    assert (found["data"]["split"], found["clean"]["n"]) == ("train", 21)
    assert evaluate(place / "run", place / "data", split="held-out")["clean"]["n"] == HELD  # typed: no line


def test_the_data_are_known_again_wherever_they_lie(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "moved")
    with pytest.warns(UserWarning, match="was trained on"):
        assert evaluate(place / "run", tmp_path / "moved")["clean"]["n"] == HELD
    shutil.copytree(place / "data", tmp_path / "split" / "train")
    write(tmp_path / "split" / "val", seed=1, each=2)
    assert evaluation_split(tmp_path / "split") == "val"
    assert evaluate(place / "run", tmp_path / "split")["clean"]["n"] == 6
    assert evaluate(place / "run", tmp_path / "split", split="held-out")["clean"]["n"] == HELD
    with pytest.warns(UserWarning, match="was trained on 15 of these 22"):
        assert evaluate(place / "run", tmp_path / "split", split="train")["clean"]["n"] == 21


def test_other_data_are_taken_whole(place: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", seed=1)
    assert evaluate(place / "run", other)["clean"]["n"] == 21
    with pytest.raises(UserError, match="keeps no record of a training on data"):
        evaluate(place / "run", other, split="held-out")
    with pytest.raises(UserError, match="keeps no record"):
        to_measure("bundled:cifar10-resnet", other, "held-out")


def test_a_run_keeps_one_record_of_a_training_on_the_same_pictures(place: Path) -> None:
    (record,) = trained_on(str(place / "run"))
    assert trained_on(str(place / "flow")) == [record]
    assert (record["pictures"], record["split"], len(held_places(record))) == (22, "train", HELD)
    assert trained_on("bundled:cifar10-prg") == trained_on("no such thing") == []


@pytest.mark.filterwarnings("ignore:1 unreadable")
def test_held_out_of_trainings_that_held_out_others_is_refused(place: Path, tmp_path: Path) -> None:
    """It took all pictures, those trained on among them, of the split that is for evaluation."""
    own = {**TUNED, "validation": 2}
    records = []
    for seed in range(1, 9):  # until two seeds hold out no picture that is the same
        finetune(place / "flow", place / "data", out=tmp_path / f"{seed}", fresh=True, seed=seed, **own)
        (record,) = trained_on(str(tmp_path / f"{seed}"))
        records.append(held_places(record))
        if not records[0] & records[-1]:
            break
    finetune(tmp_path / "1", place / "data", out=tmp_path / "both", seed=len(records), **own)
    assert len(trained_on(str(tmp_path / "both"))) == 2
    with pytest.raises(UserError, match=r"held out of all 2 trainings behind .*; type --split train for all of them"):
        evaluate(tmp_path / "both", place / "data", split="held-out")
    with pytest.warns(UserWarning, match="both was trained on 19 of these 22 pictures$"):
        assert evaluate(tmp_path / "both", place / "data")["clean"]["n"] == 21


@pytest.mark.filterwarnings("ignore:1 unreadable")
def test_a_control_from_random_weights_has_no_record_of_the_flow(place: Path, tmp_path: Path) -> None:
    finetune(place / "flow", place / "data", out=tmp_path / "out", fresh=True, seed=1, **TUNED)
    (record,) = trained_on(str(tmp_path / "out"))
    assert record != trained_on(str(place / "flow"))[0]


def test_a_flow_is_measured_on_what_was_held_out(place: Path, held: tuple[torch.Tensor, torch.Tensor]) -> None:
    how: dict[str, Any] = {"steps": 1, "divergence": "hutchinson"}
    with pytest.warns(UserWarning, match="flow was trained on 15 of the 22"):
        found = likelihood(place / "flow", place / "data", **how)
    assert found.n == HELD
    assert abs(found.bits_per_dim - likelihood(place / "flow", held[0], **how).bits_per_dim) < 1e-6
    with (
        pytest.warns(UserWarning, match="was trained on 15 of these 22"),
        pytest.warns(UserWarning, match="1 unreadable pictures skipped"),
    ):
        assert likelihood(place / "run", place / "data", split="train", limit=50, **how).n == 21
    with pytest.warns(UserWarning, match="flow was trained on"):
        work = work_of("diagnose", place / "flow", place / "data")
    assert torch.equal(work.images, held[0])  # type: ignore[attr-defined]


def test_curves_take_what_was_held_out(place: Path) -> None:
    with pytest.warns(UserWarning, match="run was trained on 15 of the 22"):
        found = curves(place / "run", place / "data", steps=2, depth_offsets=(0.0,))
    assert found["data"]["split"] == "held-out"
    assert {row["n"] for row in found["steps"]} == {HELD}


def test_features_of_training_pictures_are_said_to_be_so(place: Path) -> None:
    with pytest.warns(UserWarning, match="flow was trained on 15 of the 22 pictures of 'train'"):
        found = features(place / "flow", place / "data", 0.5, steps=1, probes="none", workers=0)
    assert len(found.pictures["train"][0]) == 21


@pytest.mark.filterwarnings("default")
def test_the_command_says_it_in_a_note(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", place / "run", "--data", place / "data", "--out", tmp_path / "asked") == 0
    assert capsys.readouterr().err.count("note: ") == 1
    assert json.loads((tmp_path / "asked" / "measures.json").read_text())["evaluation"]["data"]["split"] == "held-out"
    assert run("evaluate", TOY, "--data", place / "data", "--split", "held-out", "--out", tmp_path / "no") == 2
    assert "keeps no record" in capsys.readouterr().err


def test_pictures_from_python_are_known_again(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (12, 3, SIDE, SIDE), generator=generator(5)).byte()
    made = pretrain(images, net="unet-tiny", out=tmp_path / "flow", steps=1, **QUICK)
    for flow in (tmp_path / "flow", made.flow):
        with pytest.warns(UserWarning, match="was trained on 6 of the 12"):
            found = likelihood(flow, images, steps=1, divergence="hutchinson")
        assert found.n == HELD


# ---- the split of every task ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train, val and odd, of 24, 12 and 16 pictures of three classes."""
    data = tmp_path_factory.mktemp("splits")
    for seed, (split, each) in enumerate((("train", 8), ("val", 4), ("odd", 6)), start=1):
        write(data / split, CLASSES, each, 16, seed)
    return data


@pytest.mark.parametrize(("split", "count"), [("odd", 18), ("val", 12), ("train", 24)])
def test_every_task_reads_the_split_that_is_typed(place: Path, splits: Path, split: str, count: int) -> None:
    def work(task: str, *given: Any, **settings: Any) -> Any:
        return work_of(task, *given, data=splits, split=split, **settings)

    assert work("evaluate", place / "run").conditions[0].count == count
    assert work("curves", place / "run", steps=1).conditions[0].count == count
    for task in ("likelihood", "diagnose"):
        with pytest.warns(UserWarning, match="16x16 pixels are resized"):
            assert len(work(task, place / "flow").images) == count
    assert len(work("statistics", TOY).images) == count
    assert work("spectrum", size=16).total == count
    assert len(work("walk", place / "flow", torch.zeros(3, SIDE, SIDE)).others) == count
    scored = work("scorecard", TOY, n=100, draw=False)
    assert len(scored.images) == (count if split != "train" else count // 2)


def test_an_audit_reads_the_split_that_is_typed(splits: Path, tmp_path: Path) -> None:
    for split, each in (("test", 4), ("odd", 5)):
        write(tmp_path / split, NAMES, each, 16)
        with pytest.raises(UserError, match=f"has {each} readable pictures of class 'anchor'"):
            work_of("explain", TOY, tmp_path, split=split, n=2, steps=1, real=10)


def test_what_is_read_where_no_split_is_typed(place: Path, splits: Path) -> None:
    assert work_of("evaluate", place / "run", splits).conditions[0].count == 12  # type: ignore[attr-defined]
    assert len(work_of("statistics", TOY, splits).images) == 24  # type: ignore[attr-defined]
    for task in ("statistics", "scorecard"):
        with pytest.raises(UserError, match="has no split 'none'; it has odd, train, val"):
            work_of(task, TOY, data=splits, split="none")


def test_a_training_on_a_split(splits: Path, tmp_path: Path) -> None:
    pretrain(splits, net="unet-tiny", split="odd", size=SIDE, out=tmp_path / "flow", steps=1, **QUICK)
    (record,) = trained_on(str(tmp_path / "flow"))
    assert (record["split"], record["pictures"]) == ("odd", 18)
    finetune(tmp_path / "flow", splits, out=tmp_path / "run", split="train", **TUNED)
    assert [record["split"] for record in trained_on(str(tmp_path / "run"))] == ["train", "odd"]
    for split, learnt, count in (("train", 18, 24), ("odd", 12, 18)):
        with pytest.warns(UserWarning, match=f"was trained on {learnt} of these {count}"):
            evaluate(tmp_path / "run", splits, split=split)
    assert evaluate(tmp_path / "run", splits)["clean"]["n"] == 12
