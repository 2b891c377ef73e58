"""Every fact of a ModelSpec is used, or is refused: grey networks, the order of arguments, facts of the other kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, UserError, load_flow, load_model
from bothways.models.classifiers import origin_of
from bothways.numerics.draws import generator

MEAN, STD = (0.1, 0.45, 0.7), (0.2, 0.3, 0.5)
GREY = ModelSpec(8, (0.13,) * 3, (0.31,) * 3, 4, "grey")
FLOW = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=10.0)


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator(1))


# ---- grey ----------------------------------------------------------------------------------------------------------


def grey_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        ]
        return nn.Sequential(*layers).eval()


def test_a_grey_classifier_sees_the_mean_of_the_three_channels() -> None:
    net, image = grey_net(), pictures()
    model = load_model(net, GREY)
    wanted = net((image.mean(1, keepdim=True) - 0.13) / 0.31)
    assert (model.outputs(image) - wanted).abs().max() < 1e-5
    assert model.features(image, ["0:input"])["0:input"].shape == (2, 1, 8, 8)
    uneven = load_model(net, replace(GREY, mean=MEAN, std=STD))
    shown = torch.stack([(image[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1).mean(1, keepdim=True)
    assert (uneven.outputs(image) - net(shown)).abs().max() < 1e-5


@pytest.mark.parametrize("recipe", ["pixels", "das", "icons", "maco"])
@pytest.mark.filterwarnings("ignore")
def test_what_a_grey_classifier_draws_is_grey(recipe: str) -> None:
    model = load_model(grey_net(), GREY)
    drawn = bothways.generate(model, classes=[1], n=1, steps=6, recipe=recipe)
    before = bothways.generate(model, classes=[1], n=1, steps=1, recipe=recipe)
    assert drawn.images.std() > 0
    assert (drawn.images - drawn.images.mean(1, keepdim=True)).abs().max() < 1e-6
    assert model.outputs(drawn.images).softmax(1)[0, 1] > model.outputs(before.images).softmax(1)[0, 1]


def test_a_grey_spec_may_state_one_number() -> None:
    assert ModelSpec(8, (0.13,), (0.31,), 4, "grey") == GREY
    with pytest.raises(UserError, match="mean has 1 numbers"):
        ModelSpec(8, (0.13,), (0.31,), 4)


@pytest.mark.parametrize(
    ("channels", "order", "said"), [(1, "RGB", '"grey" for one'), (3, "grey", "grey pictures.*RGB")]
)
def test_a_network_of_other_channels_says_which_fact_to_mend(channels: int, order: Any, said: str) -> None:
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(UserError, match=said):
        load_model(net, replace(GREY, channel_order=order))


# ---- facts of the other kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fact", [{"time_scale": 1000.0}, {"levels": 17}, {"time_first": True}])
def test_a_fact_of_flows_alone_is_refused_for_a_model(fact: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"states {next(iter(fact))}, which only a flow has") as caught:
        load_model(grey_net(), replace(GREY, **fact))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fact", [{"classes": 10}, {"classes": ["cat", "dog"]}, {"feature_layer": "body"}])
def test_a_fact_of_models_alone_is_refused_for_a_flow(fact: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"states {next(iter(fact))}, which a flow has no use for"):
        load_flow(TimeLast(), replace(FLOW, **fact))


# ---- the order of arguments ----------------------------------------------------------------------------------------


class TimeLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.copy_(0.3 * torch.randn(3, 3, 3, 3, generator=generator(1)))
            self.conv.bias.zero_()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(x) * (1 + time)[:, None, None, None]


class TimeFirst(TimeLast):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return super().forward(x, t)


class Elementwise(nn.Module):
    """It needs no certain shape, so that either order gives something."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -x * t.reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("stated", [False, True])
def test_a_network_of_time_and_x_is_called_in_its_order(stated: bool, tmp_path: Path) -> None:
    x, t = torch.randn(3, 3, 8, 8, generator=generator(2)), torch.tensor([0.1, 0.5, 0.9])
    flow, wanted = load_flow(TimeFirst(), replace(FLOW, time_first=stated)), load_flow(TimeLast(), FLOW)
    assert torch.equal(flow(x, t), wanted(x, t))
    assert flow.spec.time_first
    assert not wanted.spec.time_first
    assert torch.equal(bothways.sample(flow, n=2, steps=3).images, bothways.sample(wanted, n=2, steps=3).images)


def test_so_is_one_that_takes_any_shape() -> None:
    x, t = torch.randn(3, 3, 8, 8, generator=generator(2)), torch.tensor([0.1, 0.5, 0.9])
    flow = load_flow(Elementwise(), FLOW)
    assert torch.equal(flow(x, t), -x * (10 * t)[:, None, None, None])


def test_the_order_that_was_found_goes_with_what_is_made_of_the_flow(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom bothways import ModelSpec\n"
        "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(1))\n"
        "    def forward(self, t, x):\n        return self.scale * x * t[:, None, None, None]\n"
        "def flow():\n    return Net(), ModelSpec(8, (.5,) * 3, (.5,) * 3, 0, path='linear')\n"
    )
    flow = load_flow(f"{tmp_path}/mine.py:flow")
    assert origin_of(flow)["spec"]["time_first"] is True
    save_file({"scale": torch.full((1,), 2.0)}, tmp_path / "w.safetensors")
    x, t = torch.ones(2, 3, 8, 8), torch.tensor([0.25, 0.5])
    twice = load_flow(f"{tmp_path}/mine.py:flow", weights=tmp_path / "w.safetensors")
    assert torch.equal(twice(x, t), 2 * flow(x, t))


class OneTime(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return -x * float(t)


class OneTimeFirst(nn.Module):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -x * float(t)


class Broadcasts(nn.Module):
    """Of one picture it is right by chance: t (1,) fits any width."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return -x * t


@pytest.mark.parametrize("net", [OneTime(), OneTimeFirst(), Broadcasts()])
@pytest.mark.parametrize("size", [8, 2])
def test_a_network_of_one_time_for_all_is_refused_in_one_line(net: nn.Module, size: int) -> None:
    with pytest.raises(UserError, match="each with a time of its own") as caught:
        load_flow(net, replace(FLOW, size=size))
    assert "time (B,)" in str(caught.value)
    assert "ModelSpec.size" not in str(caught.value)
    assert "\n" not in str(caught.value)
