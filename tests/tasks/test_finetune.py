"""Fine-tuning: what it leaves is a model like any other, a stop costs nothing, and what cannot be is one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import bothways
from bothways import UserError, finetune, load_classifier, load_flow, load_images, load_model
from bothways.cli import main
from bothways.data.splits import stratified
from bothways.numerics.draws import generator
from bothways.numerics.intervals import wilson_interval
from bothways.runs import RunFolder
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.finetune.plan import Finetuning, plan_of
from bothways.tasks.finetune.run import FinetuneWork
from bothways.tasks.recipes import configure, recipes
from bothways.tasks.shelf import work_of
from bothways.training.checkpoint import CHECKPOINT
from bothways.training.fit import rates
from bothways.types import VisionModel
from colours import tinted, write_pictures
from command import refused, run
from small_flow import small_unet, write_small_flow
from zoo import stand_in_for_torchvision

RECIPE = """# Fine-tunes next to nothing
task = "finetune"
seed = 3
[features]
kind = "walked"
depth = 0.3
steps = 2
[holdout]
validation = 9
[augmentation]
crop = 1
flip = true
strength = 2
erase = 0.2
[fit]
steps = 6
batch = 8
rate = 3e-3
layer_decay = 0.7
weight_decay = 0.05
average = 0.5
[loss]
label_smoothing = 0.1
"""
NO_AUGMENTATION = {"crop": 0, "flip": False, "strength": 0, "erase": 0}
COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flow/, colours/ in one folder a class, plain/ without classes, and tiny.toml."""
    folder = tmp_path_factory.mktemp("finetune")
    write_small_flow(folder / "flow", size=4)
    write_pictures(folder / "colours", tinted(45, 0.4, 0.6), COLOURS)
    write_pictures(folder / "plain", tinted(45, 0.4, 0.6), classes=())
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def asked(place: Path, **others: Any) -> dict[str, Any]:
    return {"flow": place / "flow", "data": place / "colours", "recipe": str(place / "tiny.toml"), **others}


def planned(place: Path, **others: Any) -> Finetuning:
    return plan_of(configure(FinetuneConfig, **asked(place, **others)))


def begun(place: Path, out: Path, **others: Any) -> FinetuneWork:
    work = work_of("finetune", **asked(place, workers=0, **others), out=out)
    assert isinstance(work, FinetuneWork)
    return work


def quick(place: Path, out: Path, **others: Any) -> bothways.Finetuned:
    return finetune(**asked(place, workers=0, save_every=4, **others), out=out)


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of an uninterrupted run by the command line, with a worker."""
    arguments = ["finetune", str(place / "flow"), "--data", str(place / "colours"), "--save-every", "4"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--recipe", str(place / "tiny.toml"), "--out", str(place / "whole")])
    assert end.value.code == 0
    return place / "whole"


def pictures(count: int = 5) -> Tensor:
    return torch.rand(count, 3, 4, 4, generator=generator(9, purpose="pictures"))


# ---- what it leaves ------------------------------------------------------------------------------------------------


def test_the_files_and_the_numbers_are_true(place: Path, whole: Path) -> None:
    own = {
        "files.txt",
        ".lock",
        "classifier.json",
        "classifier.safetensors",
        CHECKPOINT,
        "frames.jsonl",
        "given.json",
        "measures.json",
    }
    assert {p.name for p in whole.iterdir()} == {*own, "recipe.toml", "status.json", "images", "report.html"}
    folder = RunFolder.open(whole)
    assert folder.status["state"] == "complete"
    assert [frame["step"] for frame in folder.frames] == list(range(1, 7))
    assert folder.frames[0]["stats"].keys() == {"loss", "rate", "cross_entropy", "accuracy", "flow_matching"}
    stats = folder.frames[0]["stats"]
    assert abs(stats["loss"] - stats["cross_entropy"] - stats["flow_matching"]) < 1e-5  # beta is 1
    facts, model, data = folder.measures["classifier"], load_classifier(whole), load_images(place / "colours")
    order = torch.randperm(45, generator=generator(3, 0, "validation"))[:9]
    with torch.no_grad():
        logits = model.outputs(data.images[order].float() / 255)
    right = int((logits.argmax(1) == data.labels[order]).sum())
    assert facts["accuracy"] == right / 9
    assert (facts["low"], facts["high"]) == wilson_interval(right, 9)
    assert abs(facts["cross_entropy"] - F.cross_entropy(logits, data.labels[order]).item()) < 1e-5
    assert (facts["n"], facts["pictures"], facts["classes"], facts["beta"]) == (9, 36, 3, 1.0)


def test_the_flow_is_measured_beside_what_it_was_on_the_same_draws(place: Path, whole: Path) -> None:
    """Written out: the same noise and times for both, pictures dequantised."""
    data, source = load_images(place / "colours"), generator(1_000_003, 0, "pairs")
    held = data.images[torch.randperm(45, generator=generator(3, 0, "validation"))[:9]].float()
    x = 2 * (held + torch.rand(held.shape, generator=source)) / 256 - 1
    noise = torch.randn(x.shape, generator=source)
    t = (torch.arange(9) + torch.rand(9, generator=source)) / 9
    place_of = t.view(-1, 1, 1, 1) * x + (1 - t.view(-1, 1, 1, 1)) * noise
    facts = RunFolder.open(whole).measures["classifier"]
    flows = {"flow_matching_before": load_flow(place / "flow"), "flow_matching": load_classifier(whole).module.flow}
    for name, flow in flows.items():
        with torch.no_grad():
            wanted = (flow(place_of, t) - (x - noise)).square().sum(1).mean().item() / 2
        assert abs(facts[name] - wanted) < 1e-5, name
    assert facts["flow_matching"] != facts["flow_matching_before"]


def test_what_is_loaded_says_what_the_average_said_in_training(place: Path, tmp_path: Path) -> None:
    work = begun(place, tmp_path / "out")
    list(work.run())
    work.finish()
    kept, images = work.training.state.result.eval(), pictures()
    with torch.no_grad():
        wanted = kept(2 * images - 1)
        assert (load_classifier(tmp_path / "out").outputs(images) - wanted).abs().max() < 1e-5
        assert (
            work.planned.classifier.eval()(2 * images - 1) - wanted
        ).abs().max() > 1e-5  # it is the average that is kept


def test_a_loaded_classifier_is_a_model_like_any_other(place: Path, whole: Path) -> None:
    """Gradients of an inner layer and second ones too, which drawing from it asks for."""
    model = load_classifier(whole)
    assert isinstance(model, VisionModel)
    assert model.spec.classes == COLOURS
    assert (model.spec.mean, model.spec.std, model.spec.size) == ((0.0,) * 3, (1.0,) * 3, 4)
    image = pictures(2).requires_grad_()
    layer = str(model.spec.feature_layer)
    inner = "classifier.flow.network.stem"
    seen = model.features(image, [layer, inner, "outputs"])
    assert seen[layer].shape == (2, 768)
    (slope,) = torch.autograd.grad(seen[inner].square().sum(), image, retain_graph=True)
    assert slope.abs().max() > 0
    (gradient,) = torch.autograd.grad(seen["outputs"][:, 0].sum(), image, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), image)
    assert torch.isfinite(second).all()
    assert (model.head() or ("",))[0] == layer
    drawn = bothways.generate(model, ["red"], n=1, steps=1, judges=[model], data=place / "colours")
    assert drawn.images.shape == (1, 3, 4, 4)


def test_its_flow_can_be_walked_and_sampled(whole: Path) -> None:
    flow = load_classifier(whole).module.flow
    assert bothways.encode(flow, pictures(2), 0.3, 2).shape == (2, 3, 4, 4)
    assert load_flow(flow) is flow
    by_address = load_flow(whole)
    assert by_address.spec == flow.spec
    assert (by_address.state_dict().keys(), by_address.path(torch.ones(1))) == (
        flow.state_dict().keys(),
        flow.path(torch.ones(1)),
    )
    assert all(torch.equal(value, flow.state_dict()[key]) for key, value in by_address.state_dict().items())
    before = load_flow(whole.parent / "flow").state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in by_address.state_dict().items())


def test_what_was_finetuned_can_be_finetuned_again(place: Path, whole: Path, tmp_path: Path) -> None:
    again = quick(place, tmp_path / "again", flow=whole, kind="activations")
    assert (
        again.folder.settings["settings"]["loss"]["coupling"]
        == json.loads((whole / "classifier.json").read_text())["recipe"]["loss"]["coupling"]
    )
    assert load_classifier(tmp_path / "again").outputs(pictures(2)).shape == (2, 3)
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\nfrom bothways import ModelSpec\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)\n"
        "    def forward(self, x, t):\n        return self.conv(x) * t.view(-1, 1, 1, 1)\n"
        "def build():\n    return Net(), ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path='linear')\n"
    )
    first = quick(place, tmp_path / "first", flow=f"{own}:build")
    second = load_flow(tmp_path / "first")
    assert all(torch.equal(v, first.model.module.flow.state_dict()[k]) for k, v in second.state_dict().items())
    quick(place, tmp_path / "second", flow=tmp_path / "first")


def test_colours_are_learnt(place: Path, tmp_path: Path) -> None:
    done = quick(place, tmp_path / "out", train_steps=16, batch=12, rate=1e-2, label_smoothing=0.0, **NO_AUGMENTATION)
    facts = done.folder.measures["classifier"]
    assert facts["accuracy"] > 0.75
    assert facts["low"] > 1 / 3


# ---- the choices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice",
    [
        {"kind": "activations"},
        {"kind": "activations", "noised": True, "beta": 0.0},
        {"kind": "both", "layer": "network.down.0"},
        {"kind": "pixels"},
        {"frozen": True, "half": True},
        {"labels": 9, "bf16": True, "coupling": "ot"},
    ],
    ids=str,
)
def test_every_choice_trains_and_comes_back(place: Path, tmp_path: Path, choice: dict[str, Any]) -> None:
    done = quick(place, tmp_path / "out", train_steps=2, **choice)
    facts = done.folder.measures["classifier"]
    assert facts["kind"] == choice.get("kind", "walked")
    kept = load_file(tmp_path / "out" / "classifier.safetensors")
    assert {v.dtype for v in kept.values()} == {torch.float16 if choice.get("half") else torch.float32}
    if facts["frozen"]:
        before = small_unet().state_dict()
        wanted = {key: v.half() if choice.get("half") else v for key, v in before.items()}
        assert all(torch.equal(kept[f"flow.network.{key}"], value) for key, value in wanted.items())
        assert set(done.frames[0].stats) == {"loss", "rate", "cross_entropy", "accuracy"}
    elif facts["beta"]:
        assert facts["flow_matching"] != facts["flow_matching_before"]
    assert facts["pictures"] == choice.get("labels", 36)
    again = load_classifier(tmp_path / "out").outputs(pictures())
    assert torch.equal(again, done.model.outputs(pictures()))


@pytest.mark.parametrize("text", ["bias", "last:2", "lora:2"])
@pytest.mark.slow
def test_a_part_is_trained_and_kept_in_the_plain_form(place: Path, tmp_path: Path, text: str) -> None:
    """What is loaded computes as the trained average; what was not to move has its bits, but for merged adapters."""
    if text.startswith("lora"):
        stand_in_for_torchvision()
        pytest.importorskip("peft")
    work = begun(place, tmp_path / "out", tune=text, train_steps=2, average=0.5, rate=0.05, layer_decay=0.7)
    list(work.run())
    done = work.finish()
    facts, images = done.measures["classifier"], pictures()
    with torch.no_grad():
        wanted = work.training.state.result.eval()(2 * images - 1)
    loaded = load_classifier(tmp_path / "out")
    assert (loaded.outputs(images) - wanted).abs().max() < 1e-5
    assert facts["tune"] == text
    assert facts["trained"] == sum(p.numel() for p in work.planned.classifier.parameters() if p.requires_grad)
    assert facts["parameters"] == sum(p.numel() for p in loaded.module.classifier.parameters())
    assert 0 < facts["trained"] < facts["parameters"]
    assert json.loads((tmp_path / "out" / "classifier.json").read_text())["parameters"] == facts["parameters"]
    before, after = load_flow(place / "flow").state_dict(), load_flow(tmp_path / "out").state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed
    if text == "bias":
        assert all(key.endswith(".bias") for key in changed)
    elif text == "last:2":
        assert all(key.startswith(("network.up.3.", "network.head.")) for key in changed)
    else:
        assert all(key.endswith(".weight") and before[key].ndim > 1 for key in changed)
    assert list(work.summary(done, None))[2] == (
        f"{facts['trained']:,} of {facts['parameters']:,} parameters were trained "
        f"({facts['trained'] / facts['parameters']:.1%})"
    )
    assert torch.equal(quick(place, tmp_path / "again", tune=text, train_steps=2, average=0.5, rate=0.05,
                             layer_decay=0.7).model.outputs(images), loaded.outputs(images))  # fmt: skip


@pytest.mark.slow
def test_a_run_with_adapters_goes_on_to_the_same_bits(place: Path, tmp_path: Path) -> None:
    stand_in_for_torchvision()
    pytest.importorskip("peft")
    chosen: dict[str, Any] = {"tune": "lora:2", "accumulate": 2, "checkpoint_activations": True}
    quick(place, tmp_path / "whole", **chosen)
    work = begun(place, tmp_path / "parts", save_every=4, **chosen)
    frames = work.run()
    for _ in range(3):
        next(frames)
    frames.close()
    list((again := begun(place, tmp_path / "parts", save_every=4, resume=True, **chosen)).run())
    again.finish()
    same(tmp_path / "whole", tmp_path / "parts")


def test_frozen_is_the_short_form_of_the_head_alone(place: Path) -> None:
    assert settings(frozen=True).model_dump() == settings(tune="head").model_dump()
    assert (settings(frozen=True).tune, settings(tune="head").frozen) == ("head", True)
    assert "frozen" not in settings(frozen=True).model_dump()
    assert settings(tune="last:2").loss.beta == 1.0
    with pytest.raises(UserError, match="contradict each other"):
        settings(frozen=True, tune="bias")
    for words in ("false", "true"):  # of --set and --sweep, which give texts
        assert (settings(frozen=words).frozen, settings(frozen=words).tune) == (
            (True, "head") if words == "true" else (False, "all")
        )
    with pytest.raises(UserError, match="frozen='perhaps'"):
        settings(frozen="perhaps")


@pytest.mark.slow
def test_less_memory_and_parts_of_a_batch_are_the_same_training(place: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"train_steps": 2, "flow_batch": 4, "average": 0.0, **NO_AUGMENTATION}
    whole = quick(place, tmp_path / "whole", **chosen).model.outputs(pictures())
    less = quick(place, tmp_path / "less", checkpoint_activations=True, **chosen).model.outputs(pictures())
    parts = quick(place, tmp_path / "parts", accumulate=4, **chosen).model.outputs(pictures())
    assert (less - whole).abs().max() < 1e-5
    assert (parts - whole).abs().max() < 1e-3  # AdamW divides by gradients as small as rounding


def test_the_control_begins_with_other_weights_of_the_same_network(place: Path) -> None:
    one, other, fresh = (planned(place, **o) for o in ({}, {"fresh": True}, {"fresh": True}))
    theirs, own = fresh.classifier.state_dict(), one.classifier.state_dict()
    assert theirs.keys() == own.keys()
    assert not torch.equal(theirs["flow.network.stem.weight"], own["flow.network.stem.weight"])
    assert all(torch.equal(v, theirs[k]) for k, v in other.classifier.state_dict().items())
    assert torch.equal(theirs["head.out.weight"], own["head.out.weight"])  # the head begins alike


def test_a_flow_that_is_given_is_left_as_it_is(place: Path, tmp_path: Path) -> None:
    flow = load_flow(place / "flow")
    before = {key: value.clone() for key, value in flow.state_dict().items()}
    quick(place, tmp_path / "out", flow=flow, train_steps=1)
    assert all(torch.equal(value, before[key]) for key, value in flow.state_dict().items())
    assert all(p.requires_grad for p in flow.parameters())


def test_a_flow_of_the_users_own_file(place: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom bothways import ModelSpec\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)\n"
        "    def forward(self, x, t):\n        return self.conv(x) * t.view(-1, 1, 1, 1)\n"
        "def build():\n    return Net(), ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path='linear')\n"
    )
    address = f"{tmp_path / 'own.py'}:build"
    done = quick(place, tmp_path / "out", flow=address, train_steps=1)
    assert json.loads((tmp_path / "out" / "classifier.json").read_text())["flow"]["address"] == address
    again = load_classifier(tmp_path / "out").outputs(pictures())
    assert torch.equal(again, done.model.outputs(pictures()))
    for changes, says in (({"fresh": True}, "leave --fresh out"), ({"kind": "activations"}, "network.conv")):
        with pytest.raises(UserError, match=says) as said:
            quick(place, tmp_path / "other", flow=address, **changes)
        assert "\n" not in str(said.value)
    assert not (tmp_path / "other").exists()


def test_the_batch_is_one_of_augmented_and_plain_pictures_of_the_same_rows(place: Path) -> None:
    plan = planned(place)
    x, labels, plain, noise, t = plan.batch()(2)
    order = torch.randperm(36, generator=generator(3, 0, "order"))[16:24]
    rows = plan.train.images[order].float() / 255
    assert torch.equal(labels, plan.train.labels[order])
    assert ((plain + 1) / 2 - rows).abs().max() <= 1 / 256  # dequantised and nothing else
    assert ((x + 1) / 2 - rows).abs().max() > 0.05
    assert (x.min() >= -1, x.max() <= 1, noise.shape, t.shape) == (True, True, x.shape, (8,))


def test_a_grey_flow_sees_noise_that_is_uniform_as_in_its_pretraining(place: Path, tmp_path: Path) -> None:
    """One draw for the three channels: the mean of three would not be uniform, but have a standard deviation of .17."""
    config = {
        **asked(place, augmentation=NO_AUGMENTATION, batch=30),
        "flow": write_small_flow(tmp_path / "flow", size=4, channel_order="grey"),
    }
    made = plan_of(configure(FinetuneConfig, **config))
    whole = torch.randint(0, 256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    x, _, _ = made.pairs(lambda step: (whole / 255, torch.zeros(40)), 0)(0)
    part = (x.double() + 1) / 2 * 256 - whole.double().mean(1, keepdim=True).round()
    assert x.shape == (40, 1, 4, 4)
    assert float(part.std()) == pytest.approx(1 / 12**0.5, rel=0.05)


def test_the_flows_own_loss_may_see_fewer_pictures(place: Path, tmp_path: Path) -> None:
    plan = planned(place, flow_batch=4)
    x, _, plain, noise, t = plan.batch()(1)
    assert (len(x), plain.shape, noise.shape, t.shape) == (8, (4, *x.shape[1:]), (4, *x.shape[1:]), (4,))
    epoch = [plan.batch()(step)[2] for step in range(9)]  # 36 pictures: each once before any twice
    rows = ((torch.cat(epoch) + 1) * 127.5).round().clamp(0, 255).flatten(1)
    assert len(rows.unique(dim=0)) == len(plan.train.images.flatten(1).unique(dim=0))
    assert planned(place, flow_batch=500).config.loss.flow_batch == 8  # as the batch
    facts = quick(place, tmp_path / "few", flow_batch=4).folder.measures["classifier"]
    assert facts["flow_matching"] != facts["flow_matching_before"]
    with pytest.raises(UserError, match="flow_batch=0"):
        planned(place, flow_batch=0)


# ---- a head of one's own -------------------------------------------------------------------------------------------

HEAD = """
import torch

def deep(width_in, classes):
    return torch.nn.Sequential(torch.nn.Linear(width_in, 5), torch.nn.ReLU(), torch.nn.Linear(5, classes))
"""


def test_a_head_of_ones_own_file_is_built_again_by_its_address(place: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(HEAD)
    address = f"{tmp_path / 'my.py'}:deep"
    out = tmp_path / "out"
    arguments = ["finetune", place / "flow", "--data", place / "colours", "--recipe", place / "tiny.toml"]
    assert run(*arguments, "--train-steps", "1", "--head", address, "--workers", "0", "--out", out) == 0
    assert json.loads((out / "classifier.json").read_text())["head"] == address
    model = load_classifier(out)
    assert model.spec.feature_layer == "classifier.head.2:input"
    assert model.features(pictures(2), [str(model.spec.feature_layer)])[str(model.spec.feature_layer)].shape == (2, 5)
    assert [tuple(p.shape) for p in model.module.classifier.head.parameters()][2:] == [(3, 5), (3,)]


def test_a_live_head_is_given_again_and_the_entry_linear_needs_no_more(place: Path, tmp_path: Path) -> None:
    def own(width_in: int, classes: int) -> torch.nn.Module:
        return torch.nn.Linear(width_in, classes, bias=False)

    done = quick(place, tmp_path / "own", train_steps=1, head=own)
    assert done.folder.settings["settings"]["features"]["head"] == "own"
    with pytest.raises(UserError, match=r"load_classifier\(.*head=own\)") as said:
        load_classifier(tmp_path / "own")
    assert "\n" not in str(said.value)
    assert torch.equal(load_classifier(tmp_path / "own", head=own).outputs(pictures()), done.model.outputs(pictures()))
    probe = quick(place, tmp_path / "linear", train_steps=1, head="linear")
    assert [tuple(p.shape) for p in probe.model.module.classifier.head.parameters()] == [(3, 48), (3,)]
    assert torch.equal(load_classifier(tmp_path / "linear").outputs(pictures()), probe.model.outputs(pictures()))


# ---- few labels ----------------------------------------------------------------------------------------------------


def test_a_subset_is_balanced_and_a_function_of_the_seed() -> None:
    labels = torch.randint(0, 7, (400,), generator=generator(1))
    for count in (7, 50, 100, 399, 400):
        chosen = stratified(labels, count, generator(5, 0, "labels"))
        assert len(chosen.unique()) == count
        found = labels[chosen].bincount(minlength=7)
        most = int(found.max())
        full = labels.bincount(minlength=7)
        assert all(n >= min(int(f), most - 1) for n, f in zip(found.tolist(), full, strict=True))
        assert torch.equal(chosen, stratified(labels, count, generator(5, 0, "labels")))
        assert set(chosen.tolist()) <= set(stratified(labels, 400, generator(5, 0, "labels"))[: count + 1].tolist())
    assert not torch.equal(stratified(labels, 50, generator(5)), stratified(labels, 50, generator(6)))


def test_a_rare_class_is_used_up_and_the_others_fill() -> None:
    labels = torch.tensor([0] * 2 + [1] * 20 + [2] * 20)
    found = labels[stratified(labels, 20, generator(0))].bincount()
    assert found.tolist() == [2, 9, 9]


def test_labels_are_so_many_of_each_class(place: Path) -> None:
    plans = [planned(place, labels=12, seed=seed, batch=4) for seed in (3, 3, 4)]
    first, again, other = (plan.train for plan in plans)
    assert first.labels.bincount().tolist() == [4, 4, 4]
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    held = {bytes(image.numpy()) for image in plans[0].held.images}
    assert not held & {bytes(image.numpy()) for image in first.images}
    assert planned(place, labels=5).config.fit.batch == 5  # a recipe's batch gives way


# ---- stopped and resumed -------------------------------------------------------------------------------------------


def same(one: Path, other: Path) -> None:
    for name in ("classifier.safetensors", "classifier.json", "frames.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert RunFolder.open(one).measures["classifier"] == RunFolder.open(other).measures["classifier"]
    first, second = (torch.load(folder / CHECKPOINT, weights_only=True) for folder in (one, other))
    assert all(torch.equal(value, second["network"][key]) for key, value in first["network"].items())
    moments = [state["optimizers"][0]["state"] for state in (first, second)]
    assert all(torch.equal(v, moments[1][k]["exp_avg_sq"]) for k, p in moments[0].items() for v in [p["exp_avg_sq"]])


def test_a_run_stopped_between_two_steps_goes_on_to_the_same_classifier(
    place: Path, whole: Path, tmp_path: Path
) -> None:
    frames = begun(place, tmp_path / "out", save_every=2).run()
    assert [next(frames).step for _ in range(3)] == [1, 2, 3]
    frames.close()
    assert RunFolder.open(tmp_path / "out").status["state"] == "stopped"
    with pytest.raises(UserError, match="--resume"):
        quick(place, tmp_path / "out")
    with pytest.raises(UserError, match=r"settings.loss.beta was 1.0 when this run began and is 0.5 now"):
        quick(place, tmp_path / "out", beta=0.5, resume=True)
    done = quick(place, tmp_path / "out", resume=True)
    assert [frame.step for frame in done.frames] == list(range(1, 7))
    same(tmp_path / "out", whole)


def test_a_resume_takes_up_the_checkpoint_when_later_steps_are_lost(place: Path, whole: Path, tmp_path: Path) -> None:
    """As after a kill: the frames of two steps are there, and what they did is not."""
    work = begun(place, tmp_path / "out", save_every=3)
    frames = work.run()
    for _ in range(5):
        next(frames)
    work.training.saved = work.done  # so that closing writes no checkpoint
    frames.close()
    assert torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)["step"] == 3
    assert len(RunFolder.open(tmp_path / "out").frames) == 5
    quick(place, tmp_path / "out", resume=True)
    same(tmp_path / "out", whole)


def test_overwriting_removes_what_was_there(place: Path, whole: Path, tmp_path: Path) -> None:
    quick(place, tmp_path / "out", train_steps=1)
    begun(place, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "classifier.safetensors").exists()
    with pytest.raises(UserError, match="weights") as said:
        load_classifier(tmp_path / "out")
    assert "\n" not in str(said.value)


# ---- recipes and mistakes ------------------------------------------------------------------------------------------


def settings(**given: Any) -> FinetuneConfig:
    return configure(FinetuneConfig, flow="flow", data="digits", **given)


def test_the_recipes_are_valid_and_the_papers_is_the_papers() -> None:
    assert recipes("finetune").keys() - {"cifar10-prg"} == {"prg-small", "prg-activations", "prg-paper"}
    for name in recipes("finetune"):
        assert settings(recipe=name).recipe == name
    paper = settings(recipe="prg-paper")
    fit, loss, augmentation = paper.fit, paper.loss, paper.augmentation
    assert (fit.optimizer, fit.betas, fit.weight_decay, fit.epochs) == ("adamw", (0.9, 0.999), 0.05, 200)
    assert fit.rate == 1.25e-4 * fit.batch / 512
    assert fit.warmup * fit.epochs == 5
    assert (loss.label_smoothing, augmentation.strength, augmentation.erase) == (0.1, 9, 0.25)
    assert (paper.features.kind, loss.beta, fit.bf16) == ("walked", 1.0, True)
    assert (paper.features.walk_depth, paper.features.steps) == (0.5, 10)  # the midpoint, in half of 20 steps
    assert (fit.average, fit.clip) == (0, 0)  # the released code has neither
    rate = rates(fit.model_copy(update={"steps": 200, "epochs": None}))
    assert abs(max(map(rate, range(200))) - 1.25e-4) < 1e-18
    assert abs(rate(200) - 1.25e-6) < 1e-18


def test_beta_and_depth_are_what_fits_where_they_are_left_out(place: Path) -> None:
    assert settings().features.walk_depth == 0.5
    assert (planned(place).config.features.walk_depth, planned(place).config.loss.beta) == (0.3, 1.0)
    assert planned(place, frozen=True).config.loss.beta == 0.0
    pixels = planned(place, kind="pixels").config
    assert (pixels.frozen, pixels.loss.beta) == (True, 0.0)
    assert settings(recipe="prg-activations").features.read_depth == 0.1
    assert settings(kind="activations", depth=0.3).features.read_depth == 0.3
    assert settings(kind="activations").features.read_depth == 0.1  # whatever the depth of the recipe's walk
    assert settings(recipe="prg-activations", kind="walked").features.walk_depth == 0.5
    assert settings(recipe="prg-activations", depth=0.2).features.read_depth == 0.2
    assert settings(recipe="prg-paper", kind="both").features.walk_depth == 0.5
    both = settings(kind="both", depth=0.3).features
    assert (both.walk_depth, both.read_depth) == (0.3, 0.1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "walks"], "'walked', 'activations', 'both' or 'pixels'"),
        (["--depth", "1.5"], "depth=1.5"),
        (["--steps", "0"], "steps=0"),
        (["--solver", "eulr"], "type euler"),
        (["--solver", "dopri5"], "type --gradient direct, or --gradient adjoint"),
        (["--head", "prgg"], "type prg"),
        (["--kind", "activations", "--layer", "network.midle"], "network.middle"),
        (["--layer", "network.middle"], "type --kind activations"),
        (["--frozen", "--beta", "1"], "leave --beta out"),
        (["--kind", "pixels", "--beta", "1"], "'pixels' does not use"),
        (["--kind", "pixels", "--tune", "last:1"], "tune='last:1' is a part of the flow, which kind 'pixels'"),
        (["--beta", "-1"], "beta=-1"),
        (["--tune", "lor"], "type one of all, head, last:N, bias, lora:RANK"),
        (["--tune", "last:99"], "type --tune last:"),
        (["--tune", "bias", "--frozen"], "contradict each other"),
        (["--accumulate", "3"], "accumulate=3 does not divide --batch 8; type --batch 6"),
        (["--accumulate", "4", "--flow-batch", "2"], "type --flow-batch 4"),
        (["--labels", "2"], "type --labels 3 to 36"),
        (["--labels", "37"], "type --labels 3 to 36"),
        (["--batch", "40"], "type --batch 36"),
        (["--validation", "44"], "type a smaller --validation"),
        (["--epochs", "2", "--train-steps", "3"], "contradict each other"),
        (["--label-smoothing", "1"], "label_smoothing=1"),
        (["--layer-decay", "0"], "layer_decay=0"),
        (["--recipe", "otcfm"], "prg-small"),
        (["--device", "cuda:9"], "type --device cpu"),
        (["--resume", "--overwrite"], "contradict each other"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    place: Path, tmp_path: Path, capsys: Any, arguments: list[str], says: str
) -> None:
    given = ["finetune", str(place / "flow"), "--data", str(place / "colours"), "--out", str(tmp_path / "out")]
    recipe = [] if "--recipe" in arguments else ["--recipe", str(place / "tiny.toml")]
    assert says in refused(capsys, *given, *recipe, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("crop = 1", "crops = 1", "crops"),
        ("crop = 1", "crop = 4", "less than the side of 4 pixels"),
        ("strength = 2", "strength = 12", "strength of 0 to 10"),
        ("[features]\n", "[[features]]\n", "features is no table; write [features]"),
        ("depth = 0.3", "dept = 0.3", "depth"),
        ("steps = 6", "", "type --epochs"),
        ('task = "finetune"', 'task = "pretrain"', 'task = "finetune"'),
    ],
)
def test_a_bad_recipe_is_one_line(place: Path, tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in RECIPE
    (tmp_path / "bad.toml").write_text(RECIPE.replace(old, new))
    with pytest.raises(UserError) as said:
        quick(place, tmp_path / "out", recipe=str(tmp_path / "bad.toml"))
    assert says in str(said.value)
    assert "\n" not in str(said.value)
    assert not (tmp_path / "out").exists()


def test_other_flows_and_data_are_refused_in_one_line(place: Path, tmp_path: Path) -> None:
    live = load_flow(small_unet(), load_flow(place / "flow").spec)
    (tmp_path / "one" / "only").mkdir(parents=True)
    for file in sorted((place / "plain").iterdir())[:12]:
        (tmp_path / "one" / "only" / file.name).write_bytes(file.read_bytes())
    for changes, says in (
        ({"flow": live}, "give its address"),
        ({"flow": "nowhere"}, "'nowhere' is not known"),
        ({"flow": "bundled:cifar10-resnet"}, "load_model"),
        ({"data": place / "plain"}, "one folder per class"),
        ({"data": tmp_path / "one", "validation": 2}, "only one class"),
        ({"workers": -1}, "workers=-1"),
    ):
        with pytest.raises(UserError, match=says) as said:
            finetune(**asked(place, **changes), out=tmp_path / "out")
        assert "\n" not in str(said.value)
        assert not (tmp_path / "out").exists()


def test_what_is_no_classifier_is_one_line(place: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    for text in ("{", "[]", '{"features": {"kind": "walked"}}'):
        (tmp_path / "broken" / "classifier.json").write_text(text)
        with pytest.raises(UserError, match=r"classifier\.json: .*; restore the file") as said:
            load_classifier(tmp_path / "broken")
        assert "\n" not in str(said.value)
    with pytest.raises(UserError, match="type the folder that bothways finetune wrote"):
        load_classifier(place / "flow")
    assert torch.equal(load_model(str(whole)).outputs(pictures()), load_classifier(whole).outputs(pictures()))


def test_a_dry_run_says_all_and_writes_nothing(place: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main(["finetune", str(place / "flow"), "--data", str(place / "colours"), "--validation", "9", "--dry-run",
              "--out", str(tmp_path / "out"), "--kind", "activations"])  # fmt: skip
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert '"kind": "activations"' in said
    assert "would be trained on 36 pictures, 10 steps of 36, reading network.middle" in said
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_command_takes_its_folder_for_a_model(place: Path, whole: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main(["generate", str(whole), "--class", "red", "--recipe", "das", "--n", "1", "--steps", "1",
              "--judge", str(whole), "--out", str(tmp_path / "out")])  # fmt: skip
    assert (end.value.code, capsys.readouterr().err) == (0, "")
    verdict = RunFolder.open(tmp_path / "out").measures["judges"][0]
    assert (verdict["judge"], verdict["gave_gradient"]) == (str(whole), True)
    kept = bothways.statistics(str(whole), place / "colours", limit=10)
    assert any(key.startswith("features/classifier.head.out:input") for key in kept.tensors)
    with pytest.raises(UserError, match="leave spec= and weights= out") as said:
        bothways.statistics(str(whole), place / "colours", weights=whole / "classifier.safetensors")
    assert "\n" not in str(said.value)
