"""The examples of networks that others trained: their accuracies, and the facts that these rest on."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

import bothways
from bothways.data.readers.fit import size_of
from bothways.data.sources import ImageSet
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.numerics.intervals import wilson_interval
from bothways.registry import load_attribute
from bothways.types import imagenet_names
from command import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CIFAR = {  # the accuracy that is stated of a network, and how many of the first 500 test pictures are right
    "tiniest_cifar10": (0.875, 435),
    "robust_cifar10": (0.778, 374),
    "mlcommons_cifar10": (0.819, 405),
    "resnet_cifar10:resnet20": (0.81, 406),
    "resnet_cifar10:resnet56": (0.832, 411),
}


@cache
def example(name: str) -> Adapter:
    file, _, function = name.partition(":")
    return bothways.load_model(f"{EXAMPLES / file}.py:{function or 'build'}")


@pytest.fixture(scope="module")
def cifar(cifar_test: ImageSet) -> ImageSet:
    return cifar_test.subset(torch.arange(500))


@pytest.fixture(scope="module")
def photographs(shared: Path) -> ImageSet:
    data = bothways.load_images(shared / "data/imagenet-samples", size=size_of(example("mobilenet_v2").spec))
    return data.subset(torch.arange(200))


def right(model: Adapter, data: ImageSet) -> int:
    with torch.no_grad():
        found = torch.cat([model.outputs(part.float() / 255).argmax(1) for part in data.images.split(50)])
    return int((found == data.labels).sum())


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.slow
def test_a_cifar_network_is_as_accurate_as_its_source_says(name: str, cifar: ImageSet) -> None:
    stated, measured = CIFAR[name]
    model = example(name)
    assert model.spec.classes == tuple(cifar.classes)
    found = right(model, cifar)
    low, high = wilson_interval(found, 500)
    assert low <= stated <= high
    assert abs(found - measured) <= 1  # a picture may lie on the edge of two classes


@pytest.mark.slow
def test_mobilenet_reads_photographs(photographs: ImageSet) -> None:
    """86.4 % of all 500, 86.5 % of the first 200, with weights of eight bits and activations in floating point."""
    model = example("mobilenet_v2")
    assert model.spec.class_name(9) == "ostrich, Struthio camelus"
    assert abs(right(model, photographs) - 173) <= 1


def test_the_padding_of_tensorflow_and_the_scale_of_pictures_matter(cifar: ImageSet) -> None:
    model, few = example("mlcommons_cifar10"), cifar.subset(torch.arange(200))
    whole = right(model, few)
    for block in model.module.body[1:]:
        block.halves, block.conv1.padding = False, (1, 1)  # symmetric
    symmetric = right(model, few)
    for block in model.module.body[1:]:
        block.halves, block.conv1.padding = True, (0, 0)
    assert right(model, few) == whole > symmetric + 20


def test_the_bytes_of_mobilenet_are_weights_by_their_scale_and_zero_point() -> None:
    dequantised = load_attribute(f"{EXAMPLES / 'mobilenet_v2.py'}:dequantised", "function")
    stored = {
        "10_dw.weight": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "10_dw.zero_point": torch.tensor([120], dtype=torch.int32),
        "10_dw.scale": torch.tensor([0.5]),
        "10_dw.bias": torch.tensor([3.0]),
        "02_conv.weight": torch.tensor([1], dtype=torch.uint8),
        "02_conv.zero_point": torch.tensor([0], dtype=torch.int32),
        "02_conv.scale": torch.tensor([2.0]),
        "02_conv.bias": torch.tensor([4.0]),
    }
    found = dequantised(stored)
    assert list(found) == ["02_conv.weight", "02_conv.bias", "10_dw.weight", "10_dw.bias"]
    assert torch.equal(found["10_dw.weight"], torch.tensor([-60.0, 4.0, 67.5]))
    assert found["02_conv.weight"].item() == 2.0


@pytest.mark.parametrize("name", ["tiniest_cifar10", "robust_cifar10", "mlcommons_cifar10", "mobilenet_v2"])
def test_an_example_has_a_gradient_and_a_head(name: str, shared: Path) -> None:
    """The gradient in the picture against a central difference in float64; the head has a row a class."""
    model = example(name)
    module, spec = model.module.double(), model.spec
    size = 32 if spec.size == 32 else 64
    picture = Draws([0]).uniform((3, size, size)).double().requires_grad_()
    way = Draws([1]).normal((3, size, size)).double()

    def output(x: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
        return module.eval()((x - mean) / std)[0, 3]

    (slope,) = torch.autograd.grad(output(picture), picture)
    with torch.no_grad():
        step = 1e-8
        difference = (output(picture + step * way) - output(picture - step * way)) / (2 * step)
    assert abs((slope * way).sum() - difference) < 1e-4 * abs(difference) + 1e-6
    module.float()
    head = model.head()
    assert head is not None
    assert len(head[1]) == spec.count


def test_the_block_of_tiniest_is_its_formula(shared: Path) -> None:
    """Written out anew, place by place, at the middle of a map."""
    module = example("tiniest_cifar10").module
    block, x = module.l1.double(), Draws([2]).normal((48, 21, 21)).double()
    parts = [x[:, :12]]
    pooled = torch.nn.functional.unfold(x[:, 36:], 3, padding=1).view(1, 12, 9, 441).mean(2).view(1, 12, 21, 21)
    for conv, seen, reach, apart in (
        (block.dwconv1, x[:, 12:24], 1, 1),
        (block.dwconv2, x[:, 24:36], 3, 1),
        (block.dwconv3, pooled, 3, 3),
    ):
        places = torch.arange(10 - reach * apart, 11 + reach * apart, apart)
        window = seen[0][:, places][:, :, places]
        parts.append(((window * conv.weight[:, 0]).sum((1, 2)) + conv.bias).view(1, 12, 1, 1))
    mixed = torch.cat([parts[0][..., 10, 10], *(part[..., 0, 0] for part in parts[1:])], 1)[0]
    normal = (mixed - mixed.mean()) / (mixed.var(unbiased=False) + 1e-5).sqrt()
    normal = normal * block.ln.ln.weight + block.ln.ln.bias
    wide = block.fc1.weight[..., 0, 0] @ normal + block.fc1.bias
    a, b = wide[:48], wide[48:]
    out = block.fc2.weight[..., 0, 0] @ (torch.tanh(a.exp()) * a * b) + block.fc2.bias
    truth = block.rs.view(48) * x[0, :, 10, 10] + out
    assert (block(x)[0, :, 10, 10] - truth).abs().max() < 1e-9
    block.float()
    assert isinstance(block.ln.ln, nn.LayerNorm)


def silhouette(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> Tensor:
    """(3,80,80): a polygon on a white page of 60x80 with black at the sides, as the photographs were fitted."""
    page = Image.new("RGB", (60, 80), "white")
    ImageDraw.Draw(page).polygon([(60 * x, 80 * y) for x, y in points], fill=colour)
    found = Image.new("RGB", (80, 80))
    found.paste(page, (10, 0))
    return torch.from_numpy(np.array(found)).permute(2, 0, 1).float() / 255


SHIRT = [(0.3, 0.2), (0.7, 0.2), (0.98, 0.45), (0.85, 0.55), (0.75, 0.45), (0.75, 0.9)]
TROUSERS = [(0.3, 0.06), (0.7, 0.06), (0.75, 0.95), (0.55, 0.95), (0.5, 0.3)]


@pytest.mark.parametrize(("half", "word"), [(SHIRT, "topwear"), (TROUSERS, "bottomwear")])
def test_the_two_towers_of_the_fashion_clip_meet(half: list[tuple[float, float]], word: str, shared: Path) -> None:
    """Silhouettes of the two plainest garments are ranked first over all its words, in three colours."""
    outline = half + [(1 - x, y) for x, y in reversed(half)]
    pictures = torch.stack([silhouette(outline, c) for c in ((40, 60, 160), (160, 40, 40), (30, 30, 30))])
    model, words = (bothways.load_model(f"{EXAMPLES / 'fashion_clip.py'}:{name}") for name in ("build", "words"))
    with torch.no_grad():
        cosines = model.outputs(pictures) @ model.text(list(words.spec.classes)).T
        logits = words.outputs(pictures)
    assert [words.spec.class_name(k) for k in cosines.argmax(1).tolist()] == [word] * 3
    assert (logits.log_softmax(1) - (18.334 * cosines).log_softmax(1)).abs().max() < 1e-3
    assert logits.softmax(1).amax(1).min() > 0.5


def test_the_fashion_clip_attends_to_padding_and_reads_at_the_end_of_the_prompt(shared: Path) -> None:
    """The tower written out anew in float64, head by head, with the sum around attention and map together alone."""
    tower = load_attribute(f"{EXAMPLES / 'fashion_clip.py'}:towers", "function")()[1].double()
    codes = load_attribute(f"{EXAMPLES / 'fashion_clip.py'}:tokens", "function")(["Ties"])
    assert codes[0].tolist() == [2, *b"ties", 3, *[0] * 26]
    w = tower.state_dict()
    x = w["embed.weight"][codes[0]] + w["positional_embeddings.pe"][0, :32]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return (
            centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for k in range(8):
        at, heads = f"transformer_encoder.{k}", []
        seen = norm(x, f"{at}.ln1")
        for h in range(8):
            q, key, v = (linear(seen, f"{at}.mha.multi_head.{h}.{part}") for part in ("query", "key", "value"))
            weights = (q @ key.T / 8**0.5).exp()
            heads.append(weights / weights.sum(1, keepdim=True) @ v)
        inner = linear(norm(linear(torch.cat(heads, 1), f"{at}.mha.W_o"), f"{at}.ln2"), f"{at}.mlp.0")
        x = x + linear(inner * (1 + torch.erf(inner / 2**0.5)) / 2, f"{at}.mlp.2")
    truth = x[5] @ w["projection"]
    assert (tower(codes)[0] - truth / truth.norm()).abs().max() < 1e-10


def test_a_prompt_is_drawn_by_the_fashion_clip_from_the_command_line(shared: Path, tmp_path: Path) -> None:
    address, out = f"{EXAMPLES / 'fashion_clip.py'}:build", tmp_path / "run"
    assert run("generate", address, "--prompt", "sandal", "--n", 1, "--steps", 3, "--out", out) == 0
    assert tomllib.loads((out / "recipe.toml").read_text())["drawn"]["prompts"] == ["sandal:1"]
    frames = [json.loads(line)["stats"]["text"] for line in (out / "frames.jsonl").read_text().splitlines()]
    assert frames[-1] > frames[0]


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet"])
def test_networks_of_photographs_judge_each_other_by_the_names_of_classes(name: str, shared: Path) -> None:
    """A judge without names says nothing of a class that has one."""
    assert example(name).spec.classes == imagenet_names()


def test_the_flow_of_clothes_predicts_the_noise_of_pictures_like_those_it_makes(shared: Path) -> None:
    """Its own pictures, as its source shows them, with noise on its path: how much of the noise it finds."""
    flow = bothways.load_flow(f"{EXAMPLES / 'fashion_flow.py'}:build")
    network: nn.Module = flow.network.network  # type: ignore[assignment]
    assert sum(p.numel() for p in network.parameters()) == 606_852
    with Image.open(shared / "weights/niuwengang_ddpm_fashion/samples.png") as sheet:
        grey = torch.from_numpy(np.array(sheet.convert("L"))).float() / 255
    x = 2 * grey.view(8, 56, 8, 56).permute(0, 2, 1, 3).reshape(64, 1, 56, 56)[:12, :, ::2, ::2] - 1
    noise = Draws(range(12)).normal(x.shape[1:])
    for depth, most in ((0.9, 0.01), (0.5, 0.03)):
        t = torch.full((12,), 1 - depth)
        a, s, da, ds = (weight.view(-1, 1, 1, 1) for weight in flow.path(t))
        with torch.no_grad():
            found = network(a * x + s * noise, 999 * (1 - t))
            v = flow(a * x + s * noise, t)
        assert float((found - noise).square().mean()) < most
        clean = ((a * x + s * noise - s * found) / a).clamp(-1, 1)
        assert float((v - da * clean - ds * (a * x + s * noise - a * clean) / s).abs().max()) < 1e-4
    table: Tensor = network.time_embed.weight  # type: ignore[assignment, union-attr]
    angles = torch.arange(1000.0)[:, None] * torch.atan2(table[1, ::2], table[1, 1::2])
    assert float((torch.stack([angles.sin(), angles.cos()], 2).flatten(1) - table).abs().max()) < 1e-4
