"""Fine-tuning for several labels and for numbers, with weights, mixing and an early end."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import bothways
from bothways import UserError, finetune, load_classifier, load_images
from bothways.judging.verdicts import judge
from bothways.numerics import scores
from bothways.numerics.draws import generator
from bothways.representation.tuning.targets import class_loss, numbers_loss, several_loss
from bothways.runs import RunFolder
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.finetune.plan import Finetuning, plan_of
from bothways.tasks.finetune.run import FinetuneWork
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.pretrain.plan import plan_of as pretraining
from bothways.tasks.recipes import configure
from bothways.tasks.shelf import work_of
from command import refused, run
from small_flow import write_small_flow

COUNT = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """flow/, photos/ without classes, numbers.csv of their brightness, and two tables of several labels."""
    folder = tmp_path_factory.mktemp("targets")
    write_small_flow(folder / "flow", size=4)
    source = generator(1, purpose="photos")
    (folder / "photos").mkdir()
    (folder / "tables").mkdir()  # beside the pictures they would be read as labels of classes
    numbers, tags, marks = ["file,level,dark"], ["file,tags"], ["file,bright,red"]
    for index in range(COUNT):
        level, red = index / COUNT, index % 3 == 0
        pixels = level * 0.7 + 0.1 * torch.rand(4, 4, 3, generator=source)
        pixels[..., 0] += 0.2 * red
        Image.fromarray((255 * pixels).byte().numpy()).save(folder / "photos" / f"{index:02d}.png")
        numbers.append(f"{index:02d}.png,{100 * level},{-level}")
        own = (["bright"] if level > 0.5 else []) + (["red"] if red else [])
        tags.append(f"{index:02d},{';'.join(own)}")
        marks.append(f"{index:02d}.png,{int(level > 0.5)},{int(red)}")
    for name, lines in (("numbers", numbers), ("tags", tags), ("marks", marks)):
        (folder / "tables" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def given(place: Path, **others: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "flow": place / "flow",
        "data": place / "photos",
        "workers": 0,
        "validation": 10,
        "batch": 10,
    }
    return own | {"steps": 2, "depth": 0.3, "train_steps": 3, "average": 0.5, "crop": 0.0, "flip": False} | others


def planned(place: Path, **others: Any) -> Finetuning:
    return plan_of(configure(FinetuneConfig, **given(place, **others)))


def quick(place: Path, out: Path, **others: Any) -> Any:
    return finetune(**given(place, **others), out=out)


def held_out(place: Path) -> tuple[Tensor, Tensor]:
    """The held-out pictures in [0,1] and their numbers."""
    order = torch.randperm(COUNT, generator=generator(0, 0, "validation"))[:10]
    data = load_images(place / "photos")
    return data.images[order].float() / 255, order


# ---- the losses in closed form -------------------------------------------------------------------------------------


def test_the_losses_written_out() -> None:
    source = generator(2, purpose="losses")
    outputs = torch.randn(5, 3, generator=source, dtype=torch.float64)
    labels, several = torch.tensor([0, 2, 1, 1, 2]), torch.tensor([[1.0, 0, 1]] * 5, dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)
    shares = 0.9 * F.one_hot(labels, 3).double() + 0.1 / 3
    wanted = -(weights * shares * outputs.log_softmax(1)).sum(1).mean()
    assert abs(class_loss(outputs, labels, 0.1, weights)[0] - wanted) < 1e-12
    assert abs(class_loss(outputs, shares, 0.0, weights)[0] - wanted) < 1e-12
    chance = 1 / (1 + (-outputs).exp())
    smooth = 0.8 * several + 0.1
    wanted = -(smooth * chance.log() + (1 - smooth) * (1 - chance).log()).mean()
    assert abs(several_loss(outputs, several, 0.2)[0] - wanted) < 1e-12
    scale = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    wanted = ((outputs - several).square() / scale.square()).mean()
    assert abs(numbers_loss(outputs, several, scale)[0] - wanted) < 1e-12


# ---- tables of some pictures ---------------------------------------------------------------------------------------


def test_a_table_without_a_held_out_picture_says_what_to_type(place: Path, tmp_path: Path) -> None:
    held = held_out(place)[1].tolist()
    rows = [f"{k:02d}.png,{'ab'[k % 2]}" for k in range(COUNT) if k not in held]
    (tmp_path / "some.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match=r"among the 10 pictures held out; row 2 .*; type a larger --validation"):
        planned(place, labels_csv=str(tmp_path / "some.csv"))
    (tmp_path / "some.csv").write_text("file,label\n" + "\n".join([*rows, f"{held[0]:02d}.png,a"]) + "\n")
    with pytest.warns(UserWarning, match=r"some\.csv: 9 of 10 pictures held out are not in it and are left out"):
        plan = planned(place, labels_csv=str(tmp_path / "some.csv"))
    assert (len(plan.held), len(plan.train)) == (1, COUNT - 10)


def test_a_class_without_a_picture_to_train_on_is_named(place: Path, tmp_path: Path) -> None:
    held = held_out(place)[1].tolist()
    rows = [f"{k:02d}.png,{'c' if k == held[0] else 'ab'[k % 2]}" for k in range(COUNT)]
    (tmp_path / "all.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    with pytest.warns(UserWarning, match=r"^no picture to train on is of 'c': "):
        plan = planned(place, labels_csv=str(tmp_path / "all.csv"))
    assert plan.classes == ("a", "b", "c")


def test_a_name_of_two_pictures_labels_neither_of_them(place: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        shutil.copytree(place / "photos", tmp_path / "data" / folder)
    rows = [f"one/{k:02d}.png,{'ab'[k % 2]}" for k in range(1, COUNT)] + ["00.png,a"]
    (tmp_path / "table.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* are not in it and are left out")
        plan = planned(place, data=tmp_path / "data", labels_csv=tmp_path / "table.csv", validation=30, batch=5)
    assert len(plan.train) + len(plan.held) == COUNT - 1


def test_some_pictures_without_a_label_are_counted(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "photos", tmp_path / "photos")
    rows = [f"{k:02d}.png,{'ab'[k % 2]}" for k in range(3, COUNT)]
    (tmp_path / "photos" / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    with (
        pytest.warns(UserWarning, match="3 of 30 have no label"),
        pytest.raises(UserError, match=r"3 of 30 pictures have no label; take them away, or type --labels-csv FILE"),
    ):
        planned(place, data=tmp_path / "photos")


# ---- regression ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_are_predicted_in_their_own_units(place: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "target": "regression",
        "labels_csv": str(place / "tables" / "numbers.csv"),
        "train_steps": 40,
    }
    done = quick(place, tmp_path / "out", rate=5e-3, **chosen)
    images, order = held_out(place)
    with torch.no_grad():
        found = load_classifier(tmp_path / "out").outputs(images)
    true = torch.stack([100 * order / COUNT, -order / COUNT], 1)
    rows = {(row["score"], row["output"]): row for row in done.measures["classifier"]["scores"]}
    for score, of in scores.REGRESSION.items():
        for place_of, name in enumerate(("level", "dark")):
            value = of(found[:, place_of].double().numpy(), true[:, place_of].double().numpy())
            assert abs(rows[score, name]["value"] - value) < 1e-4 * max(1, abs(value))
        assert rows[score, "mean"]["low"] <= rows[score, "mean"]["value"] <= rows[score, "mean"]["high"]
    assert rows["r2", "mean"]["value"] > 0.3  # the mean has 0
    assert "accuracy" not in [row["score"] for row in done.measures["classifier"]["scores"]]
    plan = planned(place, **chosen)
    assert (plan.classifier.shift - plan.train.labels.mean(0)).abs().max() < 1e-4
    assert json.loads((tmp_path / "out" / "classifier.json").read_text())["target"] == "regression"
    (told,) = bothways.predict(tmp_path / "out", [images[0]])
    assert [answer.name for answer in told.answers] == ["level", "dark"]
    assert abs(told.answers[0].value - float(found[0, 0])) < 1e-3
    assert told.answers[0].as_dict().keys() == {"name", "number", "value"}
    with pytest.raises(UserError, match="trained with --target regression; type bothways predict"):
        bothways.evaluate(tmp_path / "out", place / "photos")
    exported = bothways.export(tmp_path / "out", to="module", out=tmp_path / "exported")
    assert exported.apart < 1e-4
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["scale"] == plan.classifier.scale.tolist()


def test_one_number_of_folders_called_by_it(place: Path, tmp_path: Path, capsys: Any) -> None:
    for index in range(COUNT):
        folder = tmp_path / "data" / f"{index % 3}.5"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes((place / "photos" / f"{index:02d}.png").read_bytes())
    quick(place, tmp_path / "out", target="regression", data=tmp_path / "data")
    assert run("predict", tmp_path / "out", place / "photos" / "03.png") == 0
    assert "03.png: number " in capsys.readouterr().out


def test_numbers_of_folders_hold_out_what_the_flow_s_training_holds_out(place: Path, tmp_path: Path) -> None:
    """Of small classes no more than half is held out, so the draw alone would hold out pictures the flow has seen."""
    for index in range(COUNT):
        folder = tmp_path / "data" / f"{index % 10}.5"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes((place / "photos" / f"{index:02d}.png").read_bytes())
    own = {"data": str(tmp_path / "data"), "validation": 16, "batch": 4}
    of_flow = pretraining(configure(PretrainConfig, **own, steps=2)).held.places
    of_head = planned(place, **own, target="regression").held.places
    assert of_flow is not None
    assert of_head is not None
    assert of_flow.tolist() == of_head.tolist()


# ---- several labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["tags", "marks"])
def test_several_labels_have_scores_of_their_own(place: Path, tmp_path: Path, table: str) -> None:
    chosen: dict[str, Any] = {"target": "multi-label", "labels_csv": str(place / "tables" / f"{table}.csv")}
    done = quick(place, tmp_path / "out", **chosen)
    images, order = held_out(place)
    model = load_classifier(tmp_path / "out")
    with torch.no_grad():
        found = model.outputs(images).double().numpy()
    assert tuple(model.spec.classes) == ("bright", "red")
    true = np.stack([(order / COUNT > 0.5).numpy(), (order % 3 == 0).numpy()], 1)
    rows = {(row["score"], row["output"]): row["value"] for row in done.measures["classifier"]["scores"]}
    for score, of in scores.RANKING.items():
        values = [of(found[:, place_of], true[:, place_of]) for place_of in range(2)]
        assert abs(rows[score, "mean"] - np.mean(values)) < 1e-9
    assert set(done.frames[0].stats) == {"loss", "rate", "binary_cross_entropy", "labels_right", "flow_matching"}
    (told,) = bothways.predict(tmp_path / "out", [images[0]])
    wanted = {name: 1 / (1 + math.exp(-value)) for name, value in zip(("bright", "red"), found[0], strict=True)}
    assert all(abs(answer.probability - wanted[answer.name]) < 1e-5 for answer in told.answers)


def test_a_single_label_is_yes_or_no(place: Path, tmp_path: Path) -> None:
    """Its one output was taken for that of two classes, after the training."""
    rows = [f"{k:02d}.png,{int(k % 3 == 0)}" for k in range(COUNT)]
    (tmp_path / "table.csv").write_text("\n".join(["file,red", *rows]) + "\n")
    done = quick(place, tmp_path / "out", target="multi-label", labels_csv=tmp_path / "table.csv")
    assert [row["output"] for row in done.measures["classifier"]["scores"]] == ["mean", "red"] * 2
    (told,) = bothways.predict(tmp_path / "out", [place / "photos" / "03.png"])
    with torch.no_grad():
        logit = float(load_classifier(tmp_path / "out").outputs(load_images(place / "photos").floats()[3:4]))
    assert [answer.name for answer in told.answers] == ["red"]
    assert abs(told.answers[0].probability - 1 / (1 + math.exp(-logit))) < 1e-6


@pytest.mark.parametrize("target", ["multi-label", "regression"])
def test_the_service_a_walk_and_a_judge_say_what_predict_says(place: Path, tmp_path: Path, target: str) -> None:
    """A softmax over several labels, or over numbers, would be none of their probabilities."""
    table = place / "tables" / ("marks.csv" if target == "multi-label" else "numbers.csv")
    quick(place, tmp_path / "out", target=target, labels_csv=table)
    photo = place / "photos" / "03.png"
    (told,) = bothways.predict(tmp_path / "out", [photo])
    walked = bothways.walk(tmp_path / "out", photo, steps=2)
    if target == "regression":
        assert walked.called_there is walked.called_back is None
    else:
        wanted = [(answer.name, answer.probability) for answer in told.answers]
        assert walked.called_there is not None
        assert [name for name, _ in walked.called_there[0]] == [name for name, _ in wanted]
        assert all(abs(a - b) < 1e-6 for (_, a), (_, b) in zip(walked.called_there[0], wanted, strict=True))
    seen = torch.rand(2, 3, 4, 4, generator=generator(3, purpose="judged"))
    (verdict,) = judge(seen, None, [load_classifier(tmp_path / "out").adapter], {}, gradient_models=set())
    best = [one.answers[0] for one in bothways.predict(tmp_path / "out", list(seen))]
    if target == "regression":
        assert verdict.called is verdict.confidence is None
    else:
        assert verdict.called_names == tuple(answer.name for answer in best)
        wanted = [(answer.name, answer.probability) for answer in best]
        assert all(abs(a - b) < 1e-6 for a, (_, b) in zip(verdict.confidence.tolist(), wanted, strict=True))
    drawn = bothways.generate(str(tmp_path / "out"), classes=[0], n=1, steps=1, judges=[])
    if target == "regression":
        assert "own_probability" not in drawn.records[0]
    else:
        (own,) = (a for a in bothways.predict(tmp_path / "out", drawn.images)[0].answers if a.number == 0)
        assert abs(drawn.records[0]["own_probability"] - own.probability) < 1e-3  # of the picture before it is 8 bits
    with pytest.raises(UserError, match=f"trained with --target {target}; type bothways predict"):
        bothways.curves(tmp_path / "out", place / "photos")
    with pytest.raises(UserError, match=f"trained with --target {target}; type bothways predict"):
        bothways.explain(str(tmp_path / "out"), data=place / "photos")
    with pytest.raises(UserError, match=f"trained with --target {target}; type bothways predict"):
        bothways.scorecard(str(tmp_path / "out"), place / "photos")
    pytest.importorskip("fastapi", reason="fastapi is not here")
    pytest.importorskip("prometheus_client", reason="prometheus_client is not here")
    from starlette.testclient import TestClient

    from bothways.serve.app import Service, build_app
    from bothways.serve.models import all_served

    app = build_app(Service(all_served([str(tmp_path / "out")]), None))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        found = client.post("/classify", content=photo.read_bytes()).json()["answers"]
    key = "value" if target == "regression" else "probability"
    assert [row.keys() for row in found] == [{"name", "number", key}] * 2
    assert [row["name"] for row in found] == [answer.name for answer in told.answers]
    for row, answer in zip(found, told.answers, strict=True):
        assert abs(row[key] - getattr(answer, key)) < 1e-5 * max(1, abs(row[key]))


# ---- weights, mixing, an early end ---------------------------------------------------------------------------------


def test_a_table_beside_the_pictures_that_is_typed_is_no_table_of_classes(place: Path, tmp_path: Path) -> None:
    """The folder reads it as one, in which a picture without tags has no label; nothing is told of that."""
    shutil.copytree(place / "photos", tmp_path / "photos")
    shutil.copy(place / "tables" / "tags.csv", tmp_path)
    with pytest.warns(UserWarning, match="have no label"):
        load_images(tmp_path / "photos")
    chosen: dict[str, Any] = {"labels_csv": tmp_path / "tags.csv", "target": "multi-label"}
    found = planned(place, data=tmp_path / "photos", **chosen)
    assert len(found.train) + len(found.held) == COUNT


def test_weights_of_classes_reach_the_loss_and_parts_of_a_batch_have_it_too(place: Path) -> None:
    csv = place / "tables" / "classes.csv"
    csv.write_text("file,label\n" + "".join(f"{i:02d},{'ab'[i % 5 == 0]}\n" for i in range(COUNT)))
    plan = planned(place, labels_csv=str(csv), class_weights="balanced", beta=0.0)
    assert plan.classes == ("a", "b")
    counts = plan.train.labels.bincount()
    assert plan.weights is not None
    assert (plan.weights - len(plan.train) / (2 * counts)).abs().max() < 1e-6
    batch = plan.batch()(0)
    whole, _ = plan.loss(plan.classifier, batch)
    halves = [plan.loss(plan.classifier, tuple(part[rows] for part in batch))[0] for rows in (slice(5), slice(5, 10))]
    assert abs(whole - sum(halves) / 2) < 1e-5
    logits = plan.classifier(batch[0])
    each = F.cross_entropy(logits, batch[1], reduction="none", label_smoothing=0.0)
    plain = planned(place, labels_csv=str(csv), class_weights="balanced", beta=0.0, label_smoothing=0.0)
    assert abs(plain.loss(plan.classifier, batch)[0] - (plan.weights[batch[1]] * each).mean()) < 1e-5


def test_a_mixed_batch_trains(place: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"labels_csv": str(place / "tables" / "classes.csv"), "mixup": 0.4, "cutmix": 1.0}
    (place / "tables" / "classes.csv").write_text(
        "file,label\n" + "".join(f"{i:02d},{'ab'[i % 2]}\n" for i in range(COUNT))
    )
    targets = planned(place, **chosen).batch()(1)[1]
    assert targets.shape == (10, 2)
    assert ((targets > 0) & (targets < 1)).any()
    assert quick(place, tmp_path / "out", **chosen).measures["classifier"]["accuracy"] is not None


def begun(place: Path, out: Path, **others: Any) -> FinetuneWork:
    work = work_of("finetune", **given(place, **others), out=out)
    assert isinstance(work, FinetuneWork)
    return work


@pytest.mark.slow
def test_training_ends_when_the_held_out_loss_has_not_fallen_and_keeps_the_best(place: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "target": "regression", "labels_csv": str(place / "tables" / "numbers.csv"), "train_steps": 60, "save_every": 2,
        "patience": 2, "rate": 0.3, "schedule": "constant", "clip": 0.0, "warmup": 0.0,
    }  # fmt: skip
    quick(place, tmp_path / "whole", **chosen)
    folder = RunFolder.open(tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "held.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    best = losses.index(min(losses))
    assert [line["step"] for line in lines] == list(range(2, 2 * len(lines) + 1, 2))
    assert len(lines) == best + 3 < 30
    assert (folder.status["state"], folder.frames[-1]["step"]) == ("complete", lines[-1]["step"])
    images, order = held_out(place)
    true = torch.stack([100 * order / COUNT, -order / COUNT], 1)
    with torch.no_grad():
        found = load_classifier(tmp_path / "whole")
        error = ((found.outputs(images) - true) / found.module.classifier.scale).square().mean()
    assert abs(error - losses[best]) < 1e-4 * max(1.0, losses[best])
    work = begun(place, tmp_path / "parts", **chosen)
    frames = work.run()
    for _ in range(3):  # between two checkpoints
        next(frames)
    frames.close()
    again = begun(place, tmp_path / "parts", resume=True, **chosen)
    list(again.run())
    again.finish()
    for name in ("classifier.safetensors", "frames.jsonl", "held.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    ended = begun(place, tmp_path / "whole", resume=True, **chosen)
    assert list(ended.run()) == []


def test_a_table_that_changed_since_is_noticed_by_a_resume(place: Path, tmp_path: Path) -> None:
    table = tmp_path / "numbers.csv"
    shutil.copy(place / "tables" / "numbers.csv", table)
    chosen: dict[str, Any] = {"target": "regression", "labels_csv": str(table)}
    frames = begun(place, tmp_path / "out", **chosen).run()
    next(frames)
    frames.close()
    begun(place, tmp_path / "out", resume=True, **chosen)
    table.write_text(table.read_text().replace("00.png,0.0,", "00.png,7.0,"))
    with pytest.raises(UserError, match=r"data\.labels was .* when this run began"):
        begun(place, tmp_path / "out", resume=True, **chosen)


def test_the_last_checkpoint_is_among_those_of_which_the_best_is_kept(place: Path, tmp_path: Path) -> None:
    """It lies between two planned ones, and its weights were replaced by older ones that nothing had set beside it."""
    chosen: dict[str, Any] = {"target": "regression", "labels_csv": str(place / "tables" / "numbers.csv")}
    quick(place, tmp_path / "out", **chosen, train_steps=5, save_every=2, patience=3, rate=0.01)
    lines = [json.loads(line) for line in (tmp_path / "out" / "held.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    losses = [line["loss"] for line in lines]
    assert min(losses) == losses[-1]
    images, order = held_out(place)
    true = torch.stack([100 * order / COUNT, -order / COUNT], 1)
    with torch.no_grad():
        found = load_classifier(tmp_path / "out")
        error = ((found.outputs(images) - true) / found.module.classifier.scale).square().mean()
    assert abs(error - losses[-1]) < 1e-4


def test_what_cannot_be_is_one_line(place: Path, tmp_path: Path, capsys: Any) -> None:
    own = ["finetune", place / "flow", "--data", place / "photos", "--validation", "10", "--out", tmp_path / "out"]
    numbers = ["--labels-csv", place / "tables" / "numbers.csv"]
    for arguments, says in (
        ([], "or --labels-csv FILE"),
        (["--target", "regression"], "type --labels-csv FILE"),
        (["--target", "multi-label"], "needs --labels-csv FILE"),
        (numbers, "row 1 has 2 columns of labels"),
        ([*numbers, "--target", "multi-label"], "row 2, column 'level'"),
        ([*numbers, "--target", "regression", "--class-weights", "balanced"], "is for --target class"),
        ([*numbers, "--target", "regression", "--label-smoothing", "0.1"], "label_smoothing is of classes"),
        (["--target", "clas"], "'class', 'multi-label' or 'regression'"),
        ([*numbers, "--target", "regression", "--labels", "21"], "type --labels 2 to 20"),
        (["--patience", "-1"], "patience=-1"),
        (["--mixup", "-1"], "mixup=-1"),
    ):
        assert says in refused(capsys, *map(str, [*own, *arguments])), arguments
    assert not (tmp_path / "out").exists()
