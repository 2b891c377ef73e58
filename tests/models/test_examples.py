"""The examples of networks that others trained: their accuracies, and the facts that these rest on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways.data.readers.fit import size_of
from bothways.data.sources import ImageSet
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.numerics.intervals import wilson_interval
from bothways.registry import load_attribute

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CIFAR = {  # the accuracy that is stated of a network, and how many of the first 500 test pictures are right
    "tiniest_cifar10": (0.875, 435),
    "robust_cifar10": (0.778, 374),
    "mlcommons_cifar10": (0.819, 405),
}


@cache
def example(name: str) -> Adapter:
    return bothways.load_model(f"{EXAMPLES / name}.py:build")


@pytest.fixture(scope="module")
def cifar(shared: Path) -> ImageSet:
    return bothways.load_images(shared / "data/cifar10-jpeg", split="test").subset(torch.arange(500))


@pytest.fixture(scope="module")
def photographs(shared: Path) -> ImageSet:
    data = bothways.load_images(shared / "data/imagenet-samples", size=size_of(example("mobilenet_v2").spec))
    return data.subset(torch.arange(200))


def right(model: Adapter, data: ImageSet) -> int:
    with torch.no_grad():
        found = torch.cat([model.outputs(part.float() / 255).argmax(1) for part in data.images.split(50)])
    return int((found == data.labels).sum())


@pytest.mark.parametrize("name", CIFAR)
def test_a_cifar_network_is_as_accurate_as_its_source_says(name: str, cifar: ImageSet) -> None:
    stated, measured = CIFAR[name]
    model = example(name)
    assert model.spec.classes == tuple(cifar.classes)
    found = right(model, cifar)
    low, high = wilson_interval(found, 500)
    assert low <= stated <= high
    assert abs(found - measured) <= 1  # a picture may lie on the edge of two classes


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


@pytest.mark.parametrize("name", [*CIFAR, "mobilenet_v2"])
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
