"""A loaded classifier in the hands of a program that knows torch alone."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bothways import UserError, evaluate, finetune, load_classifier, load_model, predict
from bothways.models.adapter import Adapter
from bothways.models.classifiers import features_config, reading
from bothways.numerics.draws import generator
from bothways.types import VisionModel
from colours import noise, write_pictures
from small_flow import write_small_flow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run/, a classifier of two colours that walks, and colours/."""
    folder = tmp_path_factory.mktemp("plain")
    write_small_flow(folder / "flow", size=4)
    write_pictures(folder / "colours", noise(20), ("blue", "red"))
    plain = {"crop": 0, "flip": False, "validation": 5, "batch": 5, "steps": 2, "train_steps": 3, "workers": 0}
    finetune(folder / "flow", folder / "colours", kind="both", depth=0.3, out=folder / "run", **plain)
    return folder


@pytest.fixture
def model(place: Path) -> nn.Module:
    return load_classifier(place / "run")


IMAGES = torch.rand(3, 3, 4, 4, generator=generator(5))


@torch.no_grad()
def by_hand(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Two Euler steps, the activations at their depth, and the head, written out."""
    inner = model.module.classifier
    x = code = 2 * images - 1
    for k in range(2):
        x = x - 0.15 * inner.flow(x, torch.full((len(x),), 1 - 0.15 * k))
    seen: list[torch.Tensor] = []
    layer = dict(inner.flow.named_modules())[inner.how.layers[0]]
    layer = layer[-1] if isinstance(layer, nn.ModuleList) else layer  # a list of blocks is not called itself
    hook = layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    inner.flow(code, torch.full((len(code),), 1 - inner.how.activation_depth))
    hook.remove()
    return inner.head(torch.cat([x.flatten(1), seen[0].mean((2, 3))], 1))


def test_it_is_a_module_that_is_called_on_pictures(model: Any) -> None:
    assert isinstance(model, nn.Module)
    assert not model.training
    with torch.no_grad():
        logits = model(IMAGES)
    assert logits.shape == (3, 2)
    assert logits.dtype == torch.float32
    assert (logits - by_hand(model, IMAGES)).abs().max() < 1e-5
    assert torch.equal(logits, torch.cat([model(one[None]) for one in IMAGES]).detach()) or (
        (logits - torch.cat([model(one[None]) for one in IMAGES])).abs().max() < 1e-5
    )
    assert torch.equal(logits, model.outputs(IMAGES).detach())


def test_its_state_goes_to_another_and_a_copy_is_its_own(model: Any, place: Path) -> None:
    other = load_classifier(place / "run")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    assert (other(IMAGES) - model(IMAGES)).abs().max() > 1e-3
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IMAGES), model(IMAGES))
    apart = copy.deepcopy(model)
    with torch.no_grad():
        next(apart.parameters()).add_(1.0)
    assert torch.equal(other(IMAGES), model(IMAGES))
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.module.classifier.parameters())


def test_it_trains_as_any_module(place: Path) -> None:
    model = load_classifier(place / "run").train()
    labels = torch.tensor([0, 1, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(IMAGES), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert any("flow.network" in name for name in moved)  # the gradient goes through the walk
    assert any("head" in name for name in moved)
    assert not model.eval().module.classifier.flow.training


def test_it_is_moved_cast_and_wrapped(place: Path, model: Any) -> None:
    wanted = model(IMAGES).detach()
    assert model.to("cpu") is model
    assert model.adapter.device == "cpu"
    assert torch.equal(nn.DataParallel(model)(IMAGES), wanted)
    assert torch.equal(nn.Sequential(model, nn.Softmax(1))(IMAGES).detach(), wanted.softmax(1))
    double = load_classifier(place / "run").double()(IMAGES.double())
    assert double.dtype == torch.float64
    assert (double - wanted).abs().max() < 1e-4
    half = load_classifier(place / "run", dtype="bf16")(IMAGES)
    assert half.dtype == torch.float32
    assert 0 < (half - wanted).abs().max() < 0.1 * wanted.abs().max() + 0.05
    empty = load_classifier(place / "run").to("meta")
    assert empty.device == "meta"


def test_a_training_in_half_precision_is_one(model: Any) -> None:
    wanted = model(IMAGES).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(IMAGES).detach()
    assert half.dtype == torch.float32
    assert 0 < (half - wanted).abs().max() < 0.1 * wanted.abs().max() + 0.05
    assert torch.equal(model(IMAGES), wanted)


def test_it_is_mapped_over_pictures_with_their_gradients(model: Any) -> None:
    model, images = model.double(), IMAGES.double()
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(values: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(torch.func.functional_call(model, values, (image[None],)), torch.tensor([1]))

    mapped = torch.func.vmap(lambda image: model(image[None])[0])(images)
    assert (mapped - model(images)).abs().max() < 1e-12
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, images)
    F.cross_entropy(model(images), torch.tensor([1, 1, 1])).backward()
    for name, value in model.named_parameters():
        whole = torch.zeros_like(value) if value.grad is None else value.grad
        assert (each[name].mean(0) - whole).abs().max() < 1e-12, name


def test_it_is_saved_whole(model: Any) -> None:
    written = io.BytesIO()
    torch.save(model, written)
    again = torch.load(io.BytesIO(written.getvalue()), weights_only=False)
    assert torch.equal(again(IMAGES), model(IMAGES))
    assert torch.equal(again.features(IMAGES, ["outputs"])["outputs"], model.outputs(IMAGES))


def test_bytes_are_refused_by_what_to_give(model: Any) -> None:
    with pytest.raises(UserError, match=r"pictures of torch\.uint8.*/ 255"):
        model((255 * IMAGES).byte())


NET = """
import torch
from bothways import ModelSpec

class Velocity(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.only = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x, t):
        return torch.tanh(self.only(x)) * t[:, None, None, None]

def build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Velocity(), ModelSpec(size=4, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, path="linear")
"""


def test_it_is_compiled_to_the_same_logits(place: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    plain = {"crop": 0, "flip": False, "validation": 5, "batch": 5, "steps": 1, "train_steps": 1, "workers": 0}
    finetune(f"{tmp_path / 'net.py'}:build", place / "colours", depth=0.3, out=tmp_path / "run", **plain)
    model = load_classifier(tmp_path / "run")
    with torch.no_grad():
        wanted, found = model(IMAGES), torch.compile(model, backend="eager")(IMAGES)
    assert (found - wanted).abs().max() < 1e-5


def test_the_package_takes_it_as_a_model(place: Path, model: Any) -> None:
    assert isinstance(model, VisionModel)
    assert load_model(model) is model.adapter
    assert isinstance(load_model(str(place / "run")), Adapter)
    assert model.spec.classes == ("blue", "red")
    assert predict(model, IMAGES)[0].answers[0].name in ("blue", "red")
    shares = [evaluate(given, place / "colours", split="held-out")["clean"]["top1"] for given in (model, model.adapter)]
    assert shares[0] == shares[1]
    how = features_config(model)
    other = reading(model, how)
    assert other.module is not model.module
    assert torch.equal(other.outputs(IMAGES), model.outputs(IMAGES))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = model.no_such_thing
