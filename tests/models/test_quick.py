"""The model that a drawing calls: folded where it may be, the model itself where a layer of its own is read."""

from __future__ import annotations

import torch
from torch import nn

import bothways
from bothways import ModelSpec, load_model
from bothways.models.quick import Quick, quick

SPEC = ModelSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3, classes=4)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip
    made[1].running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
    made[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    return made


def test_folded_and_its_own_layers_to_the_bit() -> None:
    model = load_model(network(), SPEC)
    seen, made = torch.rand(2, 3, 16, 16), quick(model)
    assert isinstance(made, Quick)
    assert (made.outputs(seen) - model.outputs(seen)).abs().max() < 1e-5
    assert (made.features(seen, ["1"])["1"] - model.features(seen, ["1"])["1"]).abs().max() < 1e-5
    for layer in ("0", "1:input"):
        assert torch.equal(made.features(seen, [layer])[layer], model.features(seen, [layer])[layer])


def test_half_precision_and_no_normalisation_are_left() -> None:
    half = load_model(network().bfloat16(), SPEC)
    assert quick(half) is half
    plain = load_model(nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten()), SPEC)
    assert quick(plain) is plain


def test_a_run_has_the_weights_of_its_moment() -> None:
    module = network()
    model = load_model(module, SPEC)

    def drawn() -> torch.Tensor:
        return bothways.generate(model, [1], n=1, recipe="das", steps=3).images

    first = drawn()
    with torch.no_grad():
        module[0].weight.mul_(-1)  # type: ignore[operator, union-attr]
    second = drawn()
    assert not torch.equal(first, second)
