"""The model that a drawing calls: folded where it may be, the model itself where a layer of its own is read."""

from __future__ import annotations

import torch
from torch import nn

import bothways
from bothways import ModelSpec, load_model
from bothways.synthesis.resized import Quick
from bothways.tasks.generate.roles import quick

SPEC = ModelSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3, classes=4)


def network() -> tuple[nn.Conv2d, nn.Sequential]:
    """The first layer, and the whole."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2)
    return conv, nn.Sequential(conv, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_folded_and_its_own_layers_to_the_bit() -> None:
    model = load_model(network()[1], SPEC)
    seen, made = torch.rand(2, 3, 16, 16), quick(model)
    assert isinstance(made, Quick)
    assert (made.outputs(seen) - model.outputs(seen)).abs().max() < 1e-5
    assert (made.features(seen, ["1"])["1"] - model.features(seen, ["1"])["1"]).abs().max() < 1e-5
    for layer in ("0", "1:input"):
        assert torch.equal(made.features(seen, [layer])[layer], model.features(seen, [layer])[layer])


def test_half_precision_and_no_normalisation_are_left() -> None:
    half = load_model(network()[1].bfloat16(), SPEC)
    assert quick(half) is half
    plain = load_model(nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten()), SPEC)
    assert quick(plain) is plain


def test_a_run_has_the_weights_of_its_moment() -> None:
    first_layer, module = network()
    model = load_model(module, SPEC)

    def drawn() -> torch.Tensor:
        return bothways.generate(model, [1], n=1, recipe="das", steps=3).images

    first = drawn()
    with torch.no_grad():
        first_layer.weight.neg_()
    second = drawn()
    assert not torch.equal(first, second)
