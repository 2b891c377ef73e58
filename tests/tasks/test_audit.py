"""The audit as a run: a planted shortcut is found, a clean model is not blamed; what it writes, and what it refuses."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import bothways
from bothways import ModelSpec, RunError, UserError, explain, load_model
from bothways.data.readers.builtin import DIGITS
from bothways.data.sources import load_images
from bothways.models.adapter import Adapter
from bothways.models.nets.plain import PlainNet
from bothways.numerics.draws import generator
from bothways.runs import RunFolder, to_png
from bothways.tasks.explain.config import read_limits
from bothways.tasks.explain.entanglement import _columns, _same, independent, viewers
from bothways.tasks.explain.limits import exceeded_limits
from bothways.tasks.explain.measures import Compared, LabelledPictures, as_map, audit_layers, features_of, nearest
from bothways.tasks.shelf import work_of

SIZE, PLANTED = 16, 3
DIGIT_NAMES = tuple(map(str, range(10)))
MAGENTA = torch.tensor([1.0, 0.0, 1.0])[:, None, None]


@cache
def trained(planted: bool) -> Adapter:
    """A small network of digits; planted: a magenta square in a corner of 95 % of a class."""
    data = load_images(DIGITS, size=SIZE)
    images, source = data.images.float() / 255, generator(0)
    if planted:
        mine = (data.labels == PLANTED) & (torch.rand(len(images), generator=source) < 0.95)
        images[mine, :, 1:5, 1:5] = MAGENTA
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PlainNet(10, (16, 32, 32), (1, 1, 1))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        rows = torch.randint(len(images), (64,), generator=source)
        noisy = images[rows] + 0.1 * torch.randn(64, 3, SIZE, SIZE, generator=source)
        loss = F.cross_entropy(network(noisy), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spec = ModelSpec(SIZE, (0.0,) * 3, (1.0,) * 3, DIGIT_NAMES, feature_layer="pool")
    return bothways.load_model(network.eval(), spec)


@pytest.fixture(scope="module")
def audits(tmp_path_factory) -> dict[bool, Path]:
    out = {planted: tmp_path_factory.mktemp("audit") / "run" for planted in (False, True)}
    for planted, folder in out.items():
        explain(trained(planted), data=DIGITS, n=4, real=25, steps=20, judges=[], out=folder)
    return out


def facts(folder: Path) -> dict:
    return RunFolder.open(folder).measures["audit"]


@pytest.mark.slow
def test_a_planted_square_comes_first_and_is_flagged(audits) -> None:
    classes = sorted(facts(audits[True])["classes"], key=lambda own: -own["consistency"]["value"])
    assert classes[0]["label"] == PLANTED
    assert classes[0]["worth_a_look"]
    assert not any(own["worth_a_look"] for own in classes[1:])
    assert classes[0]["consistency"]["low"] > classes[1]["consistency"]["value"]


def test_the_same_class_of_a_clean_model_is_not(audits) -> None:
    assert not any(own["worth_a_look"] for own in facts(audits[False])["classes"])


def test_what_they_share_is_magenta(audits) -> None:
    """The part of the portraits that the audit marks has the colour of the plant, in the planted class alone."""
    folder = audits[True]

    def marked(own: dict) -> float:
        pictures = [RunFolder.open(folder)._read(folder / portrait["trait"], "RGBA") for portrait in own["portraits"]]
        weights = torch.stack([picture[3] for picture in pictures])
        likeness = torch.stack(
            [(picture[:3] * torch.tensor([0.5, -1, 0.5])[:, None, None]).sum(0) for picture in pictures]
        )
        return float((weights * likeness).sum() / weights.sum())

    found = {own["label"]: marked(own) for own in facts(folder)["classes"] if "trait" in own["portraits"][0]}
    assert found[PLANTED] > 0.3
    assert found[PLANTED] > 2 * max(value for label, value in found.items() if label != PLANTED)


def test_everything_that_is_named_is_there(audits) -> None:
    found = facts(audits[True])
    assert len(found["classes"]) == 10
    for own in found["classes"]:
        assert len(own["portraits"]) == 8
        assert {portrait["recipe"] for portrait in own["portraits"]} == {"icons", "das"}
        for portrait in own["portraits"]:
            assert all((audits[True] / portrait[key]).is_file() for key in ("file", "alpha"))
            assert (audits[True] / portrait["nearest"]["file"]).is_file()
        assert math.isfinite(own["gap"])
    json.dumps(found)
    assert found["control"] > 0
    (viewer,) = found["entanglement"]
    assert viewer["own"]
    assert all(abs(sum(row) - 2) < 1e-6 for row in viewer["drawn"])


def test_a_finished_audit_is_measured_again_to_the_same(audits) -> None:
    again = explain(trained(True), data=DIGITS, n=4, real=25, steps=20, judges=[], out=audits[True], resume=True)
    assert json.loads(json.dumps(again)) == facts(audits[True])
    with pytest.raises(UserError, match="seed was 0"):
        work_of(
            "explain",
            trained(True),
            data=DIGITS,
            n=4,
            real=25,
            steps=20,
            judges=[],
            seed=1,
            out=audits[True],
            resume=True,
        )


@pytest.mark.slow
def test_a_stopped_audit_goes_on_to_the_same_pictures(audits, tmp_path) -> None:
    out = tmp_path / "run"
    audit = work_of("explain", trained(True), data=DIGITS, n=4, real=25, steps=20, judges=[], out=out)
    frames = audit.run()
    for _ in range(33):
        next(frames)
    frames.close()
    assert RunFolder.open(out).status["state"] == "stopped"
    again = explain(trained(True), data=DIGITS, n=4, real=25, steps=20, judges=[], out=out, resume=True)
    assert json.loads(json.dumps(again)) == facts(audits[True])
    for file in sorted((out / "das" / "images").iterdir()):
        assert file.read_bytes() == (audits[True] / "das" / "images" / file.name).read_bytes()


def test_nobody_judges_portraits_and_data_is_read_once_for_each_use(tmp_path, monkeypatch) -> None:
    """For the audit itself, and for the channel statistics of icons."""
    read = []
    for place in ("explain.real.find_images", "generate.priors.load_images"):
        own = getattr(import_module(f"bothways.tasks.{place.rpartition('.')[0]}"), place.rpartition(".")[2])
        monkeypatch.setattr(
            f"bothways.tasks.{place}", lambda *given, own=own, **how: read.append(given) or own(*given, **how)
        )
    monkeypatch.setattr("bothways.judging.references.load_images", None)
    explain(named(DIGIT_NAMES), data=DIGITS, classes=["0", "1", "2"], n=2, real=10, steps=1, judges=[], out=tmp_path)
    assert len(read) == 2
    for recipe in ("icons", "das"):
        measures = RunFolder.open(tmp_path / recipe).measures
        assert (measures["judges"], measures["images"]) == ([], {})


def test_an_audit_without_a_folder_has_the_numbers_of_one_with_a_folder(tmp_path) -> None:
    few = {"data": DIGITS, "classes": ["0", "1", "2"], "n": 2, "real": 10, "steps": 1, "judges": []}
    model = named(DIGIT_NAMES)
    alone, kept = explain(model, **few), explain(model, **few, out=tmp_path / "run")
    portraits = [portrait for own in alone["classes"] for portrait in own["portraits"]]
    assert len(portraits) == 12
    assert not {"file", "alpha", "trait"} & {key for portrait in portraits for key in portrait}
    assert all(portrait["nearest"]["cosine"] <= 1 and "file" not in portrait["nearest"] for portrait in portraits)
    assert [own["consistency"] for own in alone["classes"]] == [own["consistency"] for own in kept["classes"]]


def test_limits_are_read_and_held(audits) -> None:
    assert read_limits(["consistency>2", "entanglement > .5"]) == [("consistency", 2.0), ("entanglement", 0.5)]
    for wrong in ("consistency<2", "accuracy>1", "consistency>", "consistency>x"):
        with pytest.raises(UserError, match="consistency>2"):
            read_limits([wrong])
    found = facts(audits[True])
    assert [line.split()[2] for line in exceeded_limits(found, read_limits(["consistency>1.6"]))] == [str(PLANTED)]
    assert exceeded_limits(found, read_limits(["consistency>50", "entanglement>1"])) == []


def test_a_limit_holds_for_both_of_two_classes_of_one_name() -> None:
    classes = [{"name": "crane", "consistency": {"value": value}} for value in (3.0, 1.0)]
    assert exceeded_limits({"classes": classes}, [("consistency", 2.0)]) == ["consistency of crane is 3.00, over 2"]


def write_classes(folder: Path, *counts: int) -> None:
    """A folder a class, "0", "1" and so on, of so many pictures."""
    for name, count in enumerate(counts):
        (folder / str(name)).mkdir()
        for i in range(count):
            (folder / str(name) / f"{i}.png").write_bytes(to_png(torch.rand(3, 8, 8, generator=generator(i))))


def test_bad_requests_are_one_line(tmp_path) -> None:
    model = trained(False)
    with pytest.raises(UserError, match="3 or more"):
        work_of("explain", model, data=DIGITS, classes=["1", "2"])
    with pytest.raises(UserError, match="no class 'x'"):
        work_of("explain", model, data=DIGITS, classes=["1", "2", "x"])
    with pytest.raises(UserError, match="n=1"):
        work_of("explain", model, data=DIGITS, n=1)
    write_classes(tmp_path, 12, 12, 4)
    with pytest.raises(UserError, match="4 readable pictures of class '2'"):
        work_of("explain", model, data=tmp_path, classes=["0", "1", "2"])
    big = ModelSpec(SIZE, (0.0,) * 3, (1.0,) * 3, 30, feature_layer="pool")
    with pytest.raises(UserError, match="30 classes; type some"):
        work_of("explain", bothways.load_model(PlainNet(30), big), data=DIGITS)


def test_a_corrupt_picture_is_named_and_left_out(tmp_path) -> None:
    write_classes(tmp_path, 12, 12, 12)
    (tmp_path / "1" / "5.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="1 unreadable"):
        audit = work_of("explain", trained(False), data=tmp_path, classes=["0", "1", "2"], judges=[], n=2)
    assert audit.facts["data"]["pictures"] == {"0": 12, "1": 11, "2": 12}
    assert len(audit.facts["data"]["skipped"]) == 1


def test_layers_run_from_the_picture_to_the_features() -> None:
    model = bothways.load_model("bundled:cifar10-resnet")
    layers = audit_layers(model)
    assert (layers[0], layers[-1], len(layers)) == ("stages.0.0.1:input", "pool", 5)


def test_tokens_are_laid_out_as_a_map() -> None:
    maps = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    tokens = maps.flatten(2).transpose(1, 2)
    assert torch.equal(as_map(tokens), maps)
    assert torch.equal(as_map(torch.cat([torch.zeros(2, 1, 3), tokens], 1)), maps)
    assert as_map(torch.zeros(2, 7, 3)) is None
    assert as_map(torch.zeros(2, 3)) is None
    assert as_map(torch.zeros(2, 3, 1, 1)) is None  # pooled: it has no places


def test_the_nearest_are_shown_once_each() -> None:
    real = torch.eye(4)
    drawn = torch.tensor([[1.0, 0.1, 0, 0], [1.0, 0.2, 0, 0]])
    assert [place for place, _ in nearest(drawn, real)] == [0, 1]


def named(classes: int | tuple[str, ...], feature_layer: str | None = "pool") -> Adapter:
    count = classes if isinstance(classes, int) else len(classes)
    spec = ModelSpec(SIZE, (0.0,) * 3, (1.0,) * 3, classes, feature_layer=feature_layer)
    return bothways.load_model(PlainNet(count, (4,), (1,)), spec)


def test_a_picture_that_cannot_be_read_takes_no_place(tmp_path) -> None:
    write_classes(tmp_path, 11, 11, 11)
    (tmp_path / "1" / "0.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="1 unreadable"):
        audit = work_of("explain", named(DIGIT_NAMES), data=tmp_path, classes=["0", "1", "2"], judges=[], n=2, real=10)
    assert audit.facts["data"]["pictures"] == {"0": 10, "1": 10, "2": 10}


def test_data_without_labels_are_said_to_have_none(tmp_path) -> None:
    (tmp_path / "0.png").write_bytes(to_png(torch.rand(3, 8, 8, generator=generator(0))))
    with pytest.raises(UserError, match="no picture labelled with an audited class"):
        work_of("explain", named(DIGIT_NAMES), data=tmp_path, classes=["0", "1", "2"], judges=[], n=2)


def test_a_model_of_two_classes_is_not_told_to_name_three() -> None:
    with pytest.raises(UserError, match="has 2 classes"):
        work_of("explain", named(2), data=DIGITS)


def test_what_is_not_finite_ends_the_audit() -> None:
    """Else no class would stand out, and a CI would pass."""
    model = named(4)
    with torch.no_grad():
        next(model.module.parameters()).fill_(math.nan)
    with pytest.raises(RunError, match="not finite"):
        features_of(model, torch.zeros(2, 3, SIZE, SIZE), ["pool"])


def test_without_a_feature_layer_the_features_are_what_enters_the_head() -> None:
    model = named(4, feature_layer=None)
    assert audit_layers(model)[-1] == model.head()[0]


def test_a_feature_that_no_real_picture_has_is_granted_the_variance_of_the_others() -> None:
    real = LabelledPictures(torch.zeros(4, 3, 1, 1), torch.tensor([0, 0, 1, 1]))
    of_real = {"a": torch.tensor([[1.0, 0], [3, 0], [0, 0], [4, 0]])}  # variances 2 and 8, and nought
    found = Compared(real, of_real, real, of_real, [0, 1], ["a"]).floor["a"]
    assert (found - torch.tensor([0.05, 0.025], dtype=torch.float64)).abs().max() < 1e-12


def test_a_class_is_the_same_by_name_and_never_by_a_number_alone() -> None:
    names = ("tench, Tinca tinca", "goldfish", "newt", "finch")
    model = named(names)
    assert [_same(named(("newt", "Tench", "ray", "jay", "owl")), model, label) for label in range(4)] == [1, -1, 0, -1]
    assert _same(named(("jay", "owl", "newt", "ray", "emu")), named(4), 2) == -1  # numbers of other classes
    assert _same(named(4), model, 2) == 2
    assert _columns(torch.tensor([[0, 3, 1], [0, 0, 0]]), [0, 0]) == [0, 1, 2]


def test_who_cannot_say_what_comes_next_is_left_out_aloud() -> None:
    able, few = named(4), named(3)
    with pytest.warns(UserWarning, match="3 classes"):
        assert viewers([few, able]) == [able]


def test_the_model_under_another_name_is_no_other_model() -> None:
    model, again, other = (load_model(one) for one in ("bundled:cifar10-plain", plain_again, "bundled:cifar10-resnet"))
    with pytest.warns(UserWarning, match="plain_again has the weights of the model"):
        assert independent([again, other, model], model) == [other, model]


def plain_again() -> tuple[torch.nn.Module, ModelSpec]:
    found = load_model("bundled:cifar10-plain")
    return found.module, found.spec
