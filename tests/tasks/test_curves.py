"""Curves of a flow's classifier: other steps and depths are truly walked, a stop costs nothing, mistakes are a line."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bothways import UserError, curves, evaluate, finetune, load_classifier, load_images
from bothways.models.classifiers import features_config, flow_in, reading, walked_by
from bothways.numerics.draws import generator
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.solvers import fixed_names
from bothways.report import render
from bothways.representation.encode import Walk
from bothways.representation.features import Features, features
from bothways.runs import RunFolder
from bothways.tasks.curves.config import CurvesConfig
from bothways.tasks.curves.run import MANY_STEPS
from bothways.tasks.shelf import work_of
from colours import tinted, write_pictures
from command import refused, run
from small_flow import write_small_flow

COLOURS = ("blue", "green", "red")
DEPTH, OWN = 0.4, 3  # of the trained walk


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flow/, colours/ in one folder a class, and walked/, both/ and activations/, which are trained.

    Trained on the same pictures under other names, of which a run does not know that they are the same.
    """
    folder = tmp_path_factory.mktemp("curves")
    write_small_flow(folder / "flow", size=4)
    for name, digits in (("colours", 2), ("learnt", 3)):
        write_pictures(folder / name, tinted(30, 0.1), COLOURS, digits)
    quick: dict[str, Any] = {"validation": 6, "batch": 8, "rate": 1e-2, "crop": 0, "flip": False, "workers": 0}
    for kind, steps in (("walked", 6), ("both", 2), ("activations", 2)):
        depths = {"depth": 0.2} if kind == "activations" else {"depth": DEPTH, "steps": OWN}
        finetune(folder / "flow", folder / "learnt", out=folder / kind, kind=kind, train_steps=steps, **depths, **quick)
    return folder


def pictures(place: Path) -> tuple[Tensor, Tensor]:
    data = load_images(place / "colours")
    return data.images.float() / 255, data.labels


@torch.no_grad()
def by_hand(run: Path, images: Tensor, steps: int, depth: float) -> Tensor:
    """The logits of a walk by Euler's steps, written out."""
    classifier = load_classifier(run).module.classifier
    x, h = 2 * images - 1, depth / steps
    for k in range(steps):
        x = x - h * classifier.flow(x, torch.full((len(x),), 1 - k * h))
    return classifier.head(x.flatten(1))


def agrees(row: dict[str, Any], logits: Tensor, labels: Tensor) -> None:
    """The numbers of a point are those of these logits."""
    log_p = logits.double().log_softmax(1)
    assert abs(row["nll"] + log_p.gather(1, labels[:, None]).mean().item()) < 1e-5
    hits = int((log_p.argmax(1) == labels).sum())
    assert (row["n"], row["value"]) == (len(labels), hits / len(labels))
    assert (row["low"], row["high"]) == wilson_interval(hits, len(labels))


# ---- what a point is -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_point_is_a_walk_of_its_own(place: Path) -> None:
    images, labels = pictures(place)
    found = curves(place / "walked", place / "colours", steps=[1, 2, 20], depth_offsets=[-0.5, 0.5, 2.0])
    assert [row["steps"] for row in found["steps"]] == [1, 2, OWN, 20]
    for row in found["steps"]:
        assert (row["depth"], row["calls"], row["trained"]) == (DEPTH, row["steps"], row["steps"] == OWN)
        agrees(row, by_hand(place / "walked", images, row["steps"], DEPTH), labels)
    assert [row["offset"] for row in found["depth"]] == [-0.5, 0.0, 0.5, 2.0]
    assert [row["depth"] for row in found["depth"]] == pytest.approx([0.2, 0.4, 0.6, 1.0])  # at most noise
    for row in found["depth"]:
        assert (row["steps"], row["trained"]) == (OWN, row["offset"] == 0)
        agrees(row, by_hand(place / "walked", images, OWN, row["depth"]), labels)
    far = [row["nll"] for row in (*found["steps"], *found["depth"])]
    assert len({round(value, 6) for value in far}) == 7  # one of eight is the trained point twice


def test_the_trained_point_is_what_evaluate_says_of_the_run(place: Path) -> None:
    for kind in ("walked", "both", "activations"):
        clean = evaluate(place / kind, place / "colours", limit=20)["clean"]
        found = curves(place / kind, place / "colours", limit=20, **({} if kind == "activations" else {"steps": [2]}))
        own = [row for row in (*found["steps"], *found["depth"]) if row["trained"]]
        assert len(own) == (1 if kind == "activations" else 2)
        for row in (found["trained"], *own):
            assert (row["n"], row["nll"]) == (20, clean["nll"])
            assert {key: row[key] for key in ("value", "low", "high")} == clean["top1"]


@torch.no_grad()
def test_another_walk_changes_the_logits_and_not_the_model_it_came_from(place: Path) -> None:
    images, _ = pictures(place)
    model = load_classifier(place / "both")
    before, own = model.outputs(images), features_config(model)
    classifier = model.module.classifier
    for how in (
        replace(own, walk=Walk(20, "euler", "direct")),
        replace(own, walk=Walk(2, "rk4", "direct"), depth=0.7, activation_depth=0.4),
    ):
        wanted = classifier.head(features(classifier.flow, classifier.flow.path, 2 * images - 1, how))
        other = reading(model, how)
        assert (other.outputs(images) - wanted).abs().max() < 1e-5
        assert (other.outputs(images) - before).abs().max() > 1e-4
    assert torch.equal(model.outputs(images), before)
    assert features_config(model) == own


def test_both_depths_move_together(place: Path) -> None:
    found = curves(place / "both", place / "colours", steps=[OWN], depth_offsets=[0.5])
    assert [(row["depth"], row["activation_depth"]) for row in found["depth"]] == [
        (DEPTH, 0.1),
        (pytest.approx(0.6), pytest.approx(0.15)),
    ]
    images, labels = pictures(place)
    model = load_classifier(place / "both")
    how = replace(features_config(model), depth=0.4 * 1.5, activation_depth=0.1 * 1.5)
    classifier = model.module.classifier
    with torch.no_grad():
        logits = classifier.head(features(classifier.flow, classifier.flow.path, 2 * images - 1, how))
    agrees(found["depth"][1], logits, labels)


@pytest.mark.parametrize(("moved", "depths"), [("walk", (0.6, 0.1)), ("activations", (0.4, 0.15))])
def test_one_depth_moves_alone_and_in_other_steps(place: Path, moved: str, depths: tuple[float, float]) -> None:
    """As a classifier whose features are set so by hand; the trained point stays that of the training."""
    asked: dict[str, Any] = {"steps": [OWN], "depth_offsets": [0.5], "moved": moved, "offset_steps": 7}
    found = curves(place / "both", place / "colours", **asked)
    model, row = load_classifier(place / "both"), found["depth"][1]
    own = features_config(model)
    assert (own.depth, own.activation_depth) == (0.4, 0.1)
    assert (row["steps"], row["calls"], row["trained"]) == (7, 8, False)
    assert abs(row["depth"] - depths[0]) + abs(row["activation_depth"] - depths[1]) < 1e-12
    assert [(p["offset"], p["steps"], p["trained"]) for p in found["depth"]] == [(0.0, 7, False), (0.5, 7, False)]
    how = replace(own, walk=replace(own.walk, steps=7), depth=depths[0], activation_depth=depths[1])
    data = load_images(place / "colours")
    right = (reading(model, how).outputs(data.floats()).argmax(1) == data.labels).float().mean().item()
    assert abs(row["value"] - right) < 1e-6
    assert found["trained"]["steps"] == OWN


def test_what_does_not_walk_has_the_curve_over_depth_alone(place: Path) -> None:
    found = curves(place / "activations", place / "colours", limit=6)
    assert (found["steps"], found["solver"], found["trained"]["steps"]) == ([], None, None)
    assert [row["activation_depth"] for row in found["depth"]] == pytest.approx([0.16, 0.18, 0.2, 0.22, 0.24])
    assert {row["calls"] for row in found["depth"]} == {1}
    assert all("depth" not in row for row in found["depth"])


@pytest.mark.parametrize("solver", fixed_names())
def test_the_calls_are_those_that_are_made(place: Path, solver: str) -> None:
    model, images = load_classifier(place / "both"), torch.rand(2, 3, 4, 4, generator=generator(2))
    classifier, calls = model.module.classifier, []
    classifier.flow.register_forward_pre_hook(lambda *_: calls.append(1))
    for kind, depth in (("both", 0.4), ("walked", 0.4), ("walked", 0.0), ("activations", 0.4), ("pixels", 0.4)):
        how = Features(kind, depth, Walk(4, solver, "direct"), classifier.how.layers)
        with torch.no_grad():
            features(classifier.flow, classifier.flow.path, 2 * images - 1, how)
        assert len(calls) == how.calls
        calls.clear()


def test_long_walks_are_asked_about_fewer_pictures(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bothways.tasks.curves.run.MANY_STEPS", 10)  # in place of 100
    options: dict[str, Any] = {"steps": [10, 11], "depth_offsets": [0.0], "limit_long": 4}
    found = curves(place / "walked", place / "colours", **options)
    assert [(row["steps"], row["n"]) for row in found["steps"]] == [(OWN, 30), (10, 30), (11, 4)]
    images, labels = pictures(place)
    data = load_images(place / "colours", limit=4)
    agrees(found["steps"][-1], by_hand(place / "walked", data.images.float() / 255, 11, DEPTH), data.labels)
    agrees(found["steps"][1], by_hand(place / "walked", images, 10, DEPTH), labels)
    assert curves(place / "walked", place / "colours", limit=3, **options)["steps"][-1]["n"] == 3


# ---- another solver --------------------------------------------------------------------------------------------------


def test_another_solver_walks_every_point_but_the_trained_one(place: Path) -> None:
    options: dict[str, Any] = {"steps": [2, 4], "depth_offsets": [0.1]}
    found, own = (curves(place / "walked", place / "colours", **options, **s) for s in ({"solver": "heun"}, {}))
    assert found["trained"] == own["trained"]
    assert (found["solver"], found["trained_solver"], own.get("trained_solver")) == ("heun", "euler", None)
    assert [(row["steps"], row["calls"]) for row in found["steps"]] == [(2, 4), (OWN, 6), (4, 8)]
    images, labels = pictures(place)
    classifier = load_classifier(place / "walked").module.classifier
    for row, depth in [*((row, DEPTH) for row in found["steps"]), (found["depth"][1], DEPTH * 1.1)]:
        x, h = 2 * images - 1, depth / row["steps"]
        with torch.no_grad():
            for k in range(row["steps"]):
                first = classifier.flow(x, torch.full((len(x),), 1 - k * h))
                second = classifier.flow(x - h * first, torch.full((len(x),), 1 - (k + 1) * h))
                x = x - h * (first + second) / 2
            agrees(row, classifier.head(x.flatten(1)), labels)


def test_an_adaptive_solver_has_its_calls_counted(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchdiffeq")
    run_folder, data = place / "walked", place / "colours"
    adaptive: dict[str, Any] = {"solver": "dopri5", "tolerance": 1e-3, "batch": 20}
    found = curves(run_folder, data, depth_offsets=[-0.5], out=tmp_path / "c", **adaptive)
    assert found["steps"] == []
    assert [row["steps"] for row in found["depth"]] == [None, None]
    model, (images, labels) = walked_by(load_classifier(run_folder), "dopri5", 1e-3), pictures(place)
    calls: list[int] = []
    flow_in(model).register_forward_pre_hook(lambda *_: calls.append(1))
    counted = 0
    logits = []
    for part in images.split(20):
        calls.clear()
        with torch.no_grad():
            logits.append(model.outputs(part))
        counted += len(calls) * len(part)
    agrees(found["depth"][1], torch.cat(logits), labels)
    assert found["depth"][1]["calls"] == round(counted / 30, 1) > 6
    assert found["trained"]["calls"] == OWN
    measured = evaluate(run_folder, data, out=tmp_path / "e", **adaptive)
    assert measured["walk"] == {"solver": "dopri5", "steps": None, "calls": found["depth"][1]["calls"]}
    assert measured["clean"]["top1"]["value"] == found["depth"][1]["value"]
    for name in ("c", "e"):
        assert "dopri5" in render([RunFolder.open(tmp_path / name)])
    exact = evaluate(run_folder, data, solver="rk4")
    assert exact["walk"] == {"solver": "rk4", "steps": OWN, "calls": 4 * OWN}
    assert "walk" not in evaluate(run_folder, data)


def test_a_solver_for_what_does_not_walk_is_one_line(place: Path, tmp_path: Path, capsys: Any) -> None:
    data = ["--data", place / "colours", "--out", tmp_path / "no"]
    for task, model in (("curves", place / "activations"), ("evaluate", "bundled:cifar10-resnet")):
        assert "does not walk; leave --solver out" in refused(capsys, task, model, *data, "--solver", "heun")
    walked = ["curves", place / "walked", *data]
    assert "leave --tolerance out" in refused(capsys, *walked, "--solver", "heun", "--tolerance", "1e-3")
    assert "leave --steps out" in refused(capsys, *walked, "--solver", "dopri5", "--steps", "3")
    assert "leave --offset-steps out" in refused(capsys, *walked, "--solver", "dopri5", "--offset-steps", "3")
    assert not (tmp_path / "no").exists()


# ---- stopped and resumed -------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "walked", tmp_path / "classifier")
    options: dict[str, Any] = {"steps": [2, 5], "depth_offsets": [-0.2], "batch": 12}  # four points of three batches
    asked = (tmp_path / "classifier", place / "colours")
    whole = curves(*asked, **options)
    first = work_of("curves", *asked, out=tmp_path / "run", **options)
    with closing(first.run()) as frames:
        for _ in range(2 * 3 + 1):
            next(frames)
    assert RunFolder.open(tmp_path / "run").status["state"] == "stopped"
    second = work_of("curves", *asked, out=tmp_path / "run", resume=True, **options)
    assert len(second.left) == 2
    assert second.weights == [2 * 12, 2 * 12, 2 * 6, 5 * 12, 5 * 12, 5 * 6]  # calls for what the time left is told by
    assert [frame.step for frame in second.run()] == list(range(7, 13))
    assert json.dumps(second.finish()) == json.dumps(whole)
    kept = RunFolder.open(tmp_path / "run")
    assert (kept.status["state"], kept.measures["curves"]) == ("complete", whole)
    with pytest.raises(UserError, match=r"settings\.steps"):
        work_of("curves", *asked, out=tmp_path / "run", resume=True, **{**options, "steps": [2]})
    shutil.copy(place / "both" / "classifier.json", tmp_path / "classifier")
    shutil.copy(place / "both" / "classifier.safetensors", tmp_path / "classifier")
    with pytest.raises(UserError, match=r"settings\.weights|model"):
        work_of("curves", *asked, out=tmp_path / "run", resume=True, **options)


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_writes_a_run_and_its_page(place: Path, tmp_path: Path, capsys: Any) -> None:
    given = ["curves", place / "walked", "--data", place / "colours", "--limit", 6, "--out", tmp_path / "run"]
    assert run(*given, "--depth-offsets", "-.2", "-1e-1", 0, ".2", "--steps", 2, 5) == 0
    said = capsys.readouterr().out
    found = RunFolder.open(tmp_path / "run").measures["curves"]
    assert [row["steps"] for row in found["steps"]] == [2, OWN, 5]
    assert [row["offset"] for row in found["depth"]] == [-0.2, -0.1, 0.0, 0.2]
    assert f"{OWN} steps*" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"curves evaluated {place / 'walked'} at 3 numbers of steps and at 4 depths" in page
    assert all(f'data-csv="{row["nll"]}"' in page for row in (*found["steps"], *found["depth"]))
    again = (*given, "--depth-offsets", "-.2", "-.1", ".2", "--steps", 5, 2)
    assert run(*again) == 2
    assert run(*again, "--resume") == 0  # the same values in another order
    assert run("report", tmp_path / "run", "--out", tmp_path / "page.html") == 0
    capsys.readouterr()
    assert run("cite", tmp_path / "run") == 0
    assert "xue2024pretrained" in capsys.readouterr().out


def test_the_command_says_that_there_is_no_walk(place: Path, tmp_path: Path, capsys: Any) -> None:
    given = ["curves", place / "activations", "--data", place / "colours", "--limit", 3, "--out", tmp_path / "run"]
    assert run(*given, "--depth-offsets", "0.5") == 0
    assert "does not walk, so there is no curve over steps" in capsys.readouterr().out


def test_the_defaults_are_those_that_are_told() -> None:
    config = CurvesConfig(run="a run", data="digits")
    assert config.steps == (2, 5, 10, 20, 50, 100, 1000)
    assert config.depth_offsets == (-0.2, -0.1, 0.0, 0.1, 0.2)
    assert (MANY_STEPS, config.limit_long) == (100, 200)


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("activations", ["--steps", "5"], "leave --steps out"),
        ("walked", ["--steps", "0", "5"], "--steps 0: a walk takes 1 step or more"),
        ("walked", ["--depth-offsets", "-1.5", "0"], "--depth-offsets -1.5 0"),
        ("walked", ["--depth-offsets", "nan"], "depth_offsets"),
        ("walked", ["--limit", "0"], "limit=0"),
        ("walked", ["--limit-long", "0"], "limit_long=0"),
        ("walked", ["--batch", "0"], "batch=0"),
        ("walked", ["--dtype", "half"], "dtype 'half'"),
        ("walked", ["--resume", "--overwrite"], "contradict each other"),
        ("flow", [], "type the folder that bothways finetune wrote"),
        ("pixels", [], "reads raw pixels"),
        ("pixels", ["--steps", "5"], "leave --steps out"),
        ("still", ["--steps", "5"], "is at depth 0"),
        ("still", ["--offset-steps", "5"], "leave --offset-steps out"),
        ("walked", ["--moved", "activations"], "leave --moved activations out"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_one_line_and_nothing_is_written(
    place: Path, tmp_path: Path, capsys: Any, kind: str, arguments: list[str], says: str
) -> None:
    classifier = place / kind
    if kind in ("pixels", "still"):  # their cards, over the weights of the same pictures
        classifier = shutil.copytree(place / "walked", tmp_path / kind)
        card = json.loads((classifier / "classifier.json").read_text())
        card["features"] |= {"kind": "pixels"} if kind == "pixels" else {"depth": 0.0}
        (classifier / "classifier.json").write_text(json.dumps(card))
    given = ("curves", classifier, "--data", place / "colours", "--out", tmp_path / "out")
    assert says in refused(capsys, *given, *arguments)
    assert not (tmp_path / "out").exists()
