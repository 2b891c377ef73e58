"""Where a map has its channels: containers too, whatever their classes are called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, UserError, load_flow, load_model
from bothways.models.adapter import Adapter
from bothways.numerics.draws import generator
from bothways.representation.activations import activations

MEAN, STD = (0.0,) * 3, (1.0,) * 3


class Last(nn.Module):
    """(B,C,H,W) -> (B,H,W,D), as the stages of Swin leave their maps."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1))


class Functional(nn.Module):
    """The same without a linear module in it."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, channels, generator=generator(3)))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x.permute(0, 2, 3, 1) @ self.weight.T)


class Residual(nn.Module):
    """(B,H,W,C) -> (B,H,W,C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x)


class First(nn.Module):
    """(B,H,W,C) -> (B,C,H,W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class Net(nn.Module):
    """fixed: whether it takes one size alone, as a Swin of timm does."""

    def __init__(self, width: int, block: type[nn.Module] = Last, fixed: bool = False) -> None:
        super().__init__()
        self.stem, self.block, self.stage = nn.Conv2d(3, 5, 3, 2, 1), block(5, width), Residual(width)
        self.back, self.head, self.fixed = First(), nn.Linear(width, 4), fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed and x.shape[-2:] != (16, 16):
            raise ValueError(f"input size {tuple(x.shape[-2:])} doesn't match the model's (16, 16)")
        return self.head(self.back(self.stage(self.block(self.stem(x)))).mean((2, 3)))


def made(*arguments: object, **options: object) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Net(*arguments, **options).eval()  # type: ignore[arg-type]


def spec(size: int | tuple[int, int] = 16) -> ModelSpec:
    return ModelSpec(size, MEAN, STD, 4)


def pictures(height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(2, 3, height, width, generator=generator(1))


def check(net: Net, model: Adapter, image: Tensor) -> None:
    turned = net.block(net.stem(image)).movedim(3, 1)
    stage = net.stage(net.block(net.stem(image))).movedim(3, 1)
    names = ["stem", "block:input", "block", "stage", "stage:input", "stage.mlp", "stage.mlp.2", "back:input", "back"]
    seen = model.features(image, names)
    assert torch.allclose(seen["stem"], net.stem(image), atol=1e-6)
    assert torch.allclose(seen["block:input"], net.stem(image), atol=1e-6)
    for layer, wanted in {
        "block": turned,
        "stage:input": turned,
        "stage": stage,
        "back:input": stage,
        "back": stage,
    }.items():
        assert seen[layer].shape == wanted.shape, layer
        assert torch.allclose(seen[layer], wanted, atol=1e-5), layer
    assert seen["stage.mlp"].shape == stage.shape
    assert seen["stage.mlp.2"].shape == (len(image), 2 * stage.shape[1], *stage.shape[2:])


@pytest.mark.parametrize("block", [Last, Functional])
@pytest.mark.parametrize("width", [8, 6])  # 8 channels of 8 x 8 are not told apart by their shape
def test_containers_with_their_channels_last_are_turned(block: type[nn.Module], width: int) -> None:
    net = made(width, block)
    check(net, load_model(net, spec()), pictures())


@pytest.mark.parametrize("size", [(16, 24), (24, 16)])
def test_so_they_are_where_pictures_are_not_square(size: tuple[int, int]) -> None:
    net = made(8)
    check(net, load_model(net, spec(size)), pictures(*size))


@pytest.mark.parametrize("block", [Last, Functional])
def test_a_network_that_takes_one_size_alone_is_read_by_what_ran_in_it(block: type[nn.Module]) -> None:
    net = made(6, block, fixed=True)
    check(net, load_model(net, spec()), pictures())


def test_what_cannot_be_told_is_refused() -> None:
    model = load_model(made(8, fixed=True), spec())
    with pytest.raises(UserError, match=r"layer 'stage' gives \(8, 8, 8\) at every size of the picture") as caught:
        model.features(pictures(), ["stage"])
    assert "\n" not in str(caught.value)
    assert model.features(pictures(), ["block.linear"])["block.linear"].shape == (2, 8, 8, 8)


def test_a_trunk_that_takes_any_size_is_seen_though_its_head_takes_one() -> None:
    trunk = nn.Sequential(Last(3, 8), nn.GELU())
    net = nn.Sequential(trunk, nn.Flatten(), nn.Linear(8 * 8 * 8, 4)).eval()
    image = pictures(8, 8)
    seen = load_model(net, spec(8)).features(image, ["0", "0.1"])
    for value in seen.values():
        assert torch.allclose(value, trunk(image).movedim(3, 1), atol=1e-6)


def test_a_convolutional_network_keeps_its_maps() -> None:
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GELU())
    )
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(512, 4)).eval()
    image = pictures(8, 8)
    seen = load_model(net, spec(8)).features(image, ["0", "0.2", "0.2:input", "1"])
    for layer in ("0", "0.2", "1"):
        assert torch.allclose(seen[layer], body(image), atol=1e-6), layer


def test_channels_are_named_and_moved_as_such() -> None:
    """The channel of a layer moves the whole picture, not a row of it."""
    net = made(6)
    model = load_model(net, spec())
    drawn = bothways.generate(model, layer="block", channels=[3], n=1, steps=1, recipe="channel", seed=0)
    image = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    channel = model.features(image, ["block"])["block"][:, 3]
    (gradient,) = torch.autograd.grad(channel.mean(), image)
    assert drawn.images.shape[1:] == (3, 16, 16)
    assert (gradient.abs().sum((0, 1)) > 0).all()
    assert channel.shape == (1, 8, 8)


def test_the_layout_is_looked_up_once() -> None:
    net = made(6)
    model, calls = load_model(net, spec()), []
    net.register_forward_hook(lambda *_: calls.append(1))
    model.features(pictures(), ["stage"])
    looked = len(calls)
    model.features(pictures(), ["stage"])
    assert len(calls) == looked + 1


class Velocity(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block, self.stages, self.last = Last(3, width), nn.ModuleList([Residual(width)]), nn.Linear(width, 3)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.last(self.stages[0](self.block(x))).permute(0, 3, 1, 2) * (1 + time)[:, None, None, None]


@pytest.mark.parametrize("width", [8, 6])
def test_so_are_the_layers_of_a_flow(width: int) -> None:
    net, x = Velocity(width), torch.randn(2, 3, 8, 8, generator=generator(4))
    flow = load_flow(net, ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear"))
    found = activations(flow, x, 0.5, ["network.block", "network.stages"])
    for layer, map_ in {"block": net.block(x), "stages": net.stages[0](net.block(x))}.items():
        assert torch.allclose(found[f"network.{layer}"], map_.mean((1, 2)), atol=1e-6), layer
