"""An evaluation: labels go by name, numbers are those of plain float64, and a run that was stopped goes on."""

from __future__ import annotations

import json
import math
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

import bothways
from bothways import ModelSpec, UserError, evaluate, finetune, load_classifier, predict
from bothways.data.corrupted import CIFAR10_CLASSES
from bothways.data.corruptions import MORE, SEVERITIES, corrupt
from bothways.judging.accuracy import accuracy_of_pictures
from bothways.judging.classes import outputs_of_labels
from bothways.models.cards import card
from bothways.numerics.draws import Draws, generator, picture_seed
from bothways.numerics.intervals import wilson_interval
from bothways.runs import RunFolder
from bothways.tasks.shelf import work_of
from command import run
from small_flow import write_small_flow

NAMES = ("coal", "ash", "cloud", "dusk", "milk", "snow")
LEVELS = (0.05, 0.3, 0.45, 0.6, 0.75, 0.95)  # the grey that each class is
SIDE = 8


class Grey:
    """A classifier by the mean of the picture: outputs -(mean - level)^2 / 0.01, a level a class."""

    def __init__(self, classes: int | tuple[str, ...] = NAMES, levels: tuple[float, ...] = LEVELS) -> None:
        self.spec, self.name, self.calls = ModelSpec(SIDE, (0.5,) * 3, (0.5,) * 3, classes), "grey", 0
        self.levels = torch.tensor(levels, dtype=torch.float64)

    def outputs(self, image):
        self.calls += 1
        mean = image.double().mean((1, 2, 3))
        return -((mean[:, None] - self.levels) ** 2) / 0.01

    def features(self, image, layers):
        return {"outputs": self.outputs(image)}


def pictures(folder: Path, classes: tuple[str, ...] = ("milk", "coal", "dusk", "ash"), each: int = 4) -> Path:
    """A folder a class, of pictures about as grey as their class says; some nearer to another's."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(each):
            source = generator(k, purpose=name)
            level = LEVELS[NAMES.index(name)] + 0.12 * (torch.rand(1, generator=source).item() - 0.5) * (1 + k)
            spread = 0.1 * torch.rand(SIDE, SIDE, 3, generator=source).numpy()
            grey = np.clip(255 * (level + spread - 0.05), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / name / f"{k}.png")
    return folder


def read(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The same pictures in the order of the folder, and the model's number of their class."""
    files = sorted(folder.glob("*/*.png"))
    images = torch.stack([torch.from_numpy(np.asarray(Image.open(f)).copy()) for f in files]).permute(0, 3, 1, 2)
    return images.float() / 255, torch.tensor([NAMES.index(f.parent.name) for f in files])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path / "data")


def test_clean_numbers_are_those_of_plain_float64(folder: Path) -> None:
    found = evaluate(Grey(), folder, batch=5)
    images, labels = read(folder)
    outputs = Grey().outputs(images)
    answers, log_p = outputs.argmax(1), outputs.log_softmax(1)
    right = int((answers == labels).sum())
    assert 4 < right < len(labels)
    clean = found["clean"]
    assert (clean["n"], clean["top1"]["value"]) == (len(labels), right / len(labels))
    assert (clean["top1"]["low"], clean["top1"]["high"]) == wilson_interval(right, len(labels))
    five = sum(int(label in row.topk(5).indices) for row, label in zip(outputs, labels.tolist(), strict=True))
    assert clean["top5"]["value"] == five / len(labels)
    assert abs(clean["nll"] + float(log_p[range(len(labels)), labels].mean())) < 1e-12
    confidence = log_p.max(1).values.exp()
    gaps = []
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap = abs(float((answers == labels)[inside].double().mean() - confidence[inside].mean()))
            gaps.append((int(inside.sum()) / len(labels), gap))
            assert abs(clean["bins"][b]["confidence"] - float(confidence[inside].mean())) < 1e-12
    assert abs(clean["ece"] - sum(share * gap for share, gap in gaps)) < 1e-12
    assert abs(clean["mce"] - max(gap for _, gap in gaps)) < 1e-12
    counts = {(wanted, called): n for wanted, called, n in clean["confusion"]}
    for wanted in NAMES:
        for called in NAMES:
            both = (labels == NAMES.index(wanted)) & (answers == NAMES.index(called))
            assert counts.get((wanted, called), 0) == int(both.sum())
    by_name = {row["class"]: row for row in clean["per_class"]}
    assert set(by_name) == {"milk", "coal", "dusk", "ash"}
    assert by_name["ash"]["value"] == counts.get(("ash", "ash"), 0) / 4
    assert found["data"]["matched"] == "name"
    assert "corruptions" not in found


def test_offline_corruptions_are_those_of_each_pictures_own_seed(folder: Path) -> None:
    found = evaluate(Grey(), folder, corruptions="offline", batch=7, seed=3)["corruptions"]
    images, labels = read(folder)
    hits = {}
    for kind, levels in SEVERITIES.items():
        for severity, level in enumerate(levels, start=1):
            seeds = Draws([picture_seed(3, place) for place in range(len(images))])
            changed = (255 * corrupt(images, kind, level, seeds)).round() / 255
            hits[kind, severity] = (Grey().outputs(changed).argmax(1) == labels).double()
    assert len(found["rows"]) == 30
    for row in found["rows"]:
        own = hits[row["corruption"], row["severity"]]
        assert row["value"] == own.mean()
        assert (row["low"], row["high"]) == wilson_interval(int(own.sum()), len(own))
    for row in found["by_corruption"]:
        assert abs(row["value"] - float(torch.stack([hits[row["corruption"], s] for s in range(1, 6)]).mean())) < 1e-14
    assert len({row["value"] for row in found["rows"]}) > 3
    whole = torch.stack(list(hits.values()))
    assert abs(found["mean"]["value"] - float(whole.mean())) < 1e-14
    silent = torch.stack([own for (kind, _), own in hits.items() if kind != "noise"])
    assert abs(found["mean_without_noise"]["value"] - float(silent.mean())) < 1e-14
    assert "NOT CIFAR-10-C" in found["set"]
    again = evaluate(Grey(), folder, corruptions="offline", batch=3, seed=3)["corruptions"]
    assert [row["value"] for row in again["rows"]] == [row["value"] for row in found["rows"]]
    assert again["by_severity"] == found["by_severity"]


def test_named_corruptions_are_made_alone(folder: Path) -> None:
    found = evaluate(Grey(), folder, corruptions="offline:fog,roll", batch=7, seed=3)["corruptions"]
    images, labels = read(folder)
    assert [row["corruption"] for row in found["by_corruption"]] == ["fog", "roll"]
    for row in found["rows"]:
        seeds = Draws([picture_seed(3, place) for place in range(len(images))])
        changed = (
            255 * corrupt(images, row["corruption"], MORE[row["corruption"]][row["severity"] - 1], seeds)
        ).round()
        assert row["value"] == (Grey().outputs(changed / 255).argmax(1) == labels).double().mean()
    assert found.get("mean_without_noise") is None  # nothing of it is noise
    assert found["checked"].startswith("fog,roll at five severities")
    with pytest.raises(UserError, match="'offline:fogg' is not known; type offline:KIND,KIND of noise, blur"):
        evaluate(Grey(), folder, corruptions="offline:fogg")


def test_the_interval_of_the_mean_takes_a_pictures_conditions_together() -> None:
    source = generator(4)
    ease = torch.rand(300, 1, generator=source)
    hits = (torch.rand(300, 20, generator=source) < ease).to(torch.int8)
    found = accuracy_of_pictures(hits)
    shares = hits.double().mean(1).numpy()
    drawn = scipy.stats.bootstrap((shares,), np.mean, n_resamples=4000, random_state=1, method="percentile")
    assert abs(found["value"] - shares.mean()) < 1e-14
    assert abs(found["low"] - drawn.confidence_interval.low) < 0.003
    assert abs(found["high"] - drawn.confidence_interval.high) < 0.003
    narrow = wilson_interval(int(hits.sum()), hits.numel())
    assert found["high"] - found["low"] > 2 * (narrow[1] - narrow[0])  # what a share of all trials would claim
    unseen = torch.cat([hits, torch.full((7, 20), -1, dtype=torch.int8)])
    assert accuracy_of_pictures(unseen) == found
    sure = accuracy_of_pictures(torch.ones(30, 4, dtype=torch.int8))
    assert (sure["value"], sure["low"], sure["high"]) == (1.0, *wilson_interval(30, 30))


def test_a_folder_of_arrays_goes_by_the_names_of_cifar10(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    labels, greys = np.array([0, 2, 2, 9]), np.array([0.95, 0.75, 0.74, 0.05])  # airplane, bird, bird, truck
    rows = np.concatenate([greys - 0.04 * severity for severity in range(5)]).clip(0)
    pixels = np.broadcast_to((255 * rows).astype(np.uint8)[:, None, None, None], (20, 32, 32, 3))
    np.save(tmp_path / "set" / "fog.npy", pixels)
    np.save(tmp_path / "set" / "labels.npy", np.tile(labels, 5))
    (tmp_path / "data" / "bird").mkdir(parents=True)
    Image.fromarray(np.full((32, 32, 3), 191, np.uint8)).save(tmp_path / "data" / "bird" / "0.png")
    backwards = tuple(reversed(CIFAR10_CLASSES))  # so that numbers would be wrong
    model = Grey(backwards, tuple(0.05 + 0.1 * k for k in range(10)))
    found = evaluate(model, tmp_path / "data", corruptions=tmp_path / "set", batch=3)
    values = [row["value"] for row in found["corruptions"]["rows"]]
    assert values == [1.0, 0.75, 0.25, 0.25, 0.25]  # of 0.95, 0.75, 0.74, 0.05, each less 0.04 a severity
    assert found["clean"]["top1"]["value"] == 1.0
    assert "not the published CIFAR-10-C" in found["corruptions"]["set"]
    np.save(tmp_path / "set" / "spatter.npy", np.zeros((20, 32, 32, 3), np.uint8))
    more = evaluate(model, tmp_path / "data", corruptions=tmp_path / "set")["corruptions"]
    assert [row["in_mean"] for row in more["by_corruption"]] == [True, False]
    assert more["mean"] == found["corruptions"]["mean"]  # as published means have it
    with pytest.raises(UserError, match="10 of 10 classes"):
        evaluate(Grey(), pictures(tmp_path / "grey"), corruptions=tmp_path / "set")


def test_a_folder_of_folders_is_matched_by_name(tmp_path: Path, folder: Path) -> None:
    for kind in ("fog", "snow"):
        for severity in range(1, 6):
            pictures(tmp_path / "set" / kind / str(severity), ("snow", "ash"), 2)
    found = evaluate(Grey(), folder, corruptions=tmp_path / "set")
    images, labels = read(tmp_path / "set" / "fog" / "1")
    wanted = float((Grey().outputs(images).argmax(1) == labels).double().mean())
    assert wanted > 0.4
    assert {row["value"] for row in found["corruptions"]["rows"]} == {wanted}
    assert found["corruptions"]["matched"] == "name"
    assert "no checksum is published" in found["corruptions"]["checked"]


@pytest.fixture
def two_kinds(monkeypatch) -> None:
    """Of the offline set: ten conditions in place of thirty."""
    monkeypatch.setattr(
        "bothways.tasks.evaluate.conditions.LEVELS", {kind: SEVERITIES[kind] for kind in ("noise", "contrast")}
    )


@pytest.mark.usefixtures("two_kinds")
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path, folder: Path) -> None:
    options = {"corruptions": "offline", "batch": 6}
    whole = evaluate(Grey(), folder, **options)
    first = work_of("evaluate", Grey(), folder, out=tmp_path / "run", **options)
    with closing(first.run()) as frames:
        for _ in range(3 * 4 + 2):  # four conditions, and a part of the next
            next(frames)
    assert RunFolder.open(tmp_path / "run").status["state"] == "stopped"
    model = Grey()
    second = work_of("evaluate", model, folder, out=tmp_path / "run", resume=True, **options)
    steps = [frame.step for frame in second.run()]
    assert steps == list(range(13, 34))
    assert model.calls == 3 * 7
    assert json.dumps(second.finish()) == json.dumps(whole)
    kept = RunFolder.open(tmp_path / "run")
    assert kept.status["state"] == "complete"
    assert kept.measures["evaluation"]["corruptions"]["mean"] == whole["corruptions"]["mean"]
    assert any("hendrycks2019" in entry for entry in kept.measures["citations"])
    with pytest.raises(UserError, match="seed"):
        work_of("evaluate", Grey(), folder, out=tmp_path / "run", resume=True, seed=1, **options)


@pytest.mark.usefixtures("two_kinds")
def test_broken_pictures_are_named_and_left_out(folder: Path) -> None:
    (folder / "ash" / "2.png").write_bytes(b"torn")
    found = evaluate(Grey(), folder, batch=4, corruptions="offline")
    assert found["skipped"] == {"ash/2.png": "no image that can be read"}
    assert found["clean"]["n"] == 15
    assert found["corruptions"]["mean"]["n"] == 15
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="none of 16 pictures can be read"):
        evaluate(Grey(), folder)


# ---- which output a label is ---------------------------------------------------------------------------------------


def spec(*classes: str) -> ModelSpec:
    return ModelSpec(8, (0.5,) * 3, (0.5,) * 3, classes)


@pytest.mark.parametrize(
    ("model", "data", "outputs"),
    [
        (("cat", "dog", "frog"), ("frog", "cat"), [2, 0]),
        (("Tench", "great white shark"), ("great_white_shark, man-eater", "tench, Tinca tinca"), [1, 0]),
        (("crane", "crane", "maillot"), ("crane, bird", "crane, machine", "maillot"), [0, 1, 2]),
        (("crane, bird", "crane, machine"), ("crane, machine",), [1]),
    ],
)
def test_labels_go_by_name(model, data, outputs) -> None:
    found, how = outputs_of_labels(spec(*model), "m", data, "d")
    assert (found.tolist(), how) == (outputs, "name")


def test_labels_go_by_number_where_a_side_has_no_names() -> None:
    assert outputs_of_labels(spec("a", "b"), "m", (), "d")[1] == "number"
    numbered = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 2)
    assert outputs_of_labels(numbered, "m", ("a", "b"), "d")[0].tolist() == [0, 1]
    for model, data in [(numbered, ("a", "b", "c")), (spec("a", "b"), ("a", "c")), (spec("a", "a"), ("a",))]:
        with pytest.raises(UserError) as said:
            outputs_of_labels(model, "m", data, "d")
        assert "\n" not in str(said.value)


def test_what_cannot_be_asked_is_one_line(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "flat").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "flat" / "0.png")
    (tmp_path / "none").mkdir()
    for options, says in [
        ({"data": tmp_path / "flat"}, "without a label"),
        ({"data": tmp_path / "none"}, "holds no picture"),
        ({"data": tmp_path / "nowhere"}, "does not exist"),
        ({"data": folder, "corruptions": "ofline"}, "type offline"),
        ({"data": folder, "batch": 0}, "batch=0"),
        ({"data": folder, "model": Grey(0)}, "has no classes"),
    ]:
        with pytest.raises(UserError) as said:
            evaluate(**{"model": Grey(), **options})
        assert says in str(said.value)
        assert "\n" not in str(said.value)


# ---- a flow made a classifier --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``finetune``, of two steps, on coal, dusk and milk; beside it its pictures, in data/."""
    place = tmp_path_factory.mktemp("finetuned")
    data = pictures(place / "data", ("coal", "dusk", "milk"), each=5)
    flow = write_small_flow(place / "flow", size=SIDE)
    quick = {"train_steps": 2, "batch": 6, "validation": 3, "crop": 0, "flip": False, "workers": 0}
    finetune(flow, data, out=place / "run", kind="both", depth=0.3, steps=2, coupling="ot", **quick)
    return place / "run"


def test_a_finetuned_run_is_asked_for_what_it_is(tmp_path: Path, finetuned: Path) -> None:
    """Its own logits of the pictures, whose folders are fewer and so numbered otherwise."""
    data = pictures(tmp_path / "some", ("dusk", "milk"), each=4)
    files = sorted(data.rglob("*.png"))
    seen = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        log_p = load_classifier(finetuned).outputs(seen).double().log_softmax(1)
    right = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2])
    found = evaluate(finetuned, data, batch=3)
    assert found["data"]["matched"] == "name"
    assert abs(found["clean"]["nll"] + log_p.gather(1, right[:, None]).mean().item()) < 1e-5
    assert found["clean"]["top1"]["value"] == (log_p.argmax(1) == right).double().mean().item()
    for told, wanted in zip(predict(finetuned, data, top=3), log_p.exp(), strict=True):
        assert [answer.number for answer in told.answers] == wanted.argsort(descending=True).tolist()
        assert all(abs(a.probability - wanted[a.number].item()) < 1e-5 for a in told.answers)
        assert {answer.name for answer in told.answers} == {"coal", "dusk", "milk"}
    half = predict(finetuned, data, top=3, dtype="bf16")[0].answers
    assert all(abs(answer.probability - log_p[0].exp()[answer.number].item()) < 0.05 for answer in half)


def test_what_a_finetuned_run_holds_itself_is_not_asked_for(finetuned: Path) -> None:
    with pytest.raises(UserError, match="has its own spec and weights"):
        predict(finetuned, torch.zeros(1, 3, SIDE, SIDE), weights="other.safetensors")


@pytest.mark.usefixtures("two_kinds")
def test_the_papers_of_a_classifier_and_of_what_it_was_asked_are_cited(
    tmp_path: Path, finetuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cited(folder: Path) -> list[str]:
        capsys.readouterr()
        assert run("cite", folder) == 0
        return re.findall(r"@article\{(\w+),", capsys.readouterr().out)

    of_flow = ["lipman2023flow", "xue2024pretrained", "tong2024improving", "xiang2023denoising"]
    assert cited(finetuned) == of_flow
    others = pictures(tmp_path / "others", ("coal", "dusk", "milk"), each=4)
    asked = ["evaluate", finetuned, "--data", others, "--limit", 3, "--out"]
    assert run(*asked, tmp_path / "clean") == 0
    assert cited(tmp_path / "clean") == ["guo2017calibration", *of_flow]
    assert run(*asked, tmp_path / "both", "--corruptions", "offline") == 0
    both = ["guo2017calibration", "hendrycks2019benchmarking", *of_flow]
    assert cited(tmp_path / "both") == both
    (tmp_path / "both" / "measures.json").unlink()
    capsys.readouterr()
    assert run("cite", tmp_path / "both") == 1
    assert "measures.json is missing" in capsys.readouterr().err
    again = ["evaluate", finetuned, "--data", others, "--limit", 3, "--corruptions", "offline"]
    assert run(*again, "--resume", "--out", tmp_path / "both") == 0
    assert cited(tmp_path / "both") == both


# ---- the command lines ---------------------------------------------------------------------------------------------

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    for label, name in enumerate(("anchor", "barrel", "candle")):
        (tmp_path / "toys" / name).mkdir(parents=True)
        noise = torch.randint(0, 256, (16, 16, 3), generator=generator(label)).byte().numpy()
        Image.fromarray(noise).save(tmp_path / "toys" / name / "0.png")
    (tmp_path / "toys" / "anchor" / "torn.png").write_bytes(b"torn")
    return tmp_path / "toys"


@pytest.mark.usefixtures("two_kinds")
def test_the_command_writes_a_run_and_its_page(tmp_path: Path, toys: Path, capsys) -> None:
    arguments = ("evaluate", TOY, "--data", toys, "--corruptions", "offline", "--out", tmp_path / "run")
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "NOT CIFAR-10-C" in said
    assert "anchor/torn.png: no image that can be read" in said
    html = (tmp_path / "run" / "report.html").read_text()
    measures = RunFolder.open(tmp_path / "run").measures["evaluation"]
    assert f'data-csv="{measures["clean"]["top1"]["value"]}"' in html
    assert run(*arguments) == 2
    assert run(*arguments, "--resume") == 0


def test_predict_says_what_the_outputs_say(toys: Path, capsys) -> None:
    model = bothways.load_model(TOY)
    files = sorted(toys.glob("*/0.png"))
    images = torch.stack([torch.from_numpy(np.asarray(Image.open(f)).copy()) for f in files]).permute(0, 3, 1, 2)
    shares = model.outputs(images.float() / 255).detach().double().softmax(1)
    assert run("predict", TOY, toys, "--top", 2, "--json", "--batch", 2) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(each["image"]).name for each in found] == ["0.png", "torn.png", "0.png", "0.png"]
    assert found[1]["error"] == "no image that can be read"
    for each, share in zip((found[0], *found[2:]), shares, strict=True):
        assert len(each["answers"]) == 2
        for answer, k in zip(each["answers"], share.topk(2).indices.tolist(), strict=True):
            assert (answer["number"], answer["name"]) == (k, model.spec.class_name(k))
            assert abs(answer["probability"] - float(share[k])) < 1e-6
    tensors = bothways.predict(model, images.float() / 255, top=2)
    assert [p.answers[0].name for p in tensors] == [found[k]["answers"][0]["name"] for k in (0, 2, 3)]
    assert math.isclose(sum(a.probability for a in bothways.predict(model, files[0], top=9)[0].answers), 1)


def test_predict_a_line_each_and_an_exit_code(toys: Path, tmp_path: Path, capsys) -> None:
    assert run("predict", TOY, toys / "anchor" / "torn.png", toys / "barrel" / "0.png", tmp_path / "no.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("torn.png: no image that can be read")
    assert lines[2].endswith("no.png: no such file or directory")
    assert run("predict", TOY, toys / "anchor" / "torn.png") == 1
    assert "none of 1 pictures" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("predict", TOY, tmp_path / "empty") == 2
    assert len(bothways.predict(TOY, torch.zeros(3, 16, 16))) == 1
    with pytest.raises(UserError, match="or \\(B,3,H,W\\)"):
        bothways.predict(TOY, torch.zeros(2, 16, 16))


def test_a_bundled_model_reaches_on_real_pictures_what_its_card_says(shared: Path) -> None:
    found = evaluate("bundled:cifar10-resnet", shared / "data" / "cifar10-jpeg", limit=200)
    assert found["clean"]["top1"]["low"] < card("cifar10-resnet")["accuracy"] < found["clean"]["top1"]["high"]
    assert found["data"]["split"] == "test"
