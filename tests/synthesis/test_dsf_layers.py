"""The score by layers, against the gradient of every picture's own parameters: by torch.func and under vmap."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways import ModelSpec
from bothways.models.adapter import Adapter
from bothways.synthesis.dsf import score as scoring
from bothways.synthesis.dsf import squares
from bothways.synthesis.dsf.layered import LAYERED, by_layers_of
from bothways.synthesis.dsf.score import dsf_score
from bothways.synthesis.dsf.second_order import Pair
from bothways.synthesis.dsf.surrogates import loss_of
from bothways.synthesis.dsf.windows import Window

SIDE = 12


class Tied(nn.Module):
    """A map that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(torch.tanh(self.first(x))).mean((2, 3)))


class Shifted(Tied):
    """A parameter that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x) + self.shift).square().mean((2, 3)))


class Turned(Tied):
    """A parameter that is read through an attribute, and one in a list."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.first(x).square().mean((2, 3)), self.head.weight.mT.mT, torch.cat([self.head.bias]))


class Tokens(nn.Module):
    """Linear maps of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 5), nn.Linear(5, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x.flatten(2).mT))).mean(1)


def convolutions() -> nn.Module:
    """Strides, groups, dilation, padding, bias, normalisation with and without scales, in place and not."""
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 32, 3, stride=2, padding=1), nn.GELU(),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2), nn.BatchNorm2d(32, affine=False), nn.Tanh(),
        nn.Conv2d(32, 16, (1, 3), stride=(1, 2), groups=4), nn.SiLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    for part in made:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2)
    return made


def model_of(module: nn.Module, dtype: torch.dtype = torch.float64) -> Adapter:
    spec = ModelSpec(SIDE, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2), 4)
    return Adapter(module.to(dtype).eval(), spec)


def pictures(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(4, 3, SIDE, SIDE, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": "log"},
        {"distance": "layers"},
        {"augmentation": ["flip", "noise"], "copies": 2},
        {"live": "original", "augmentation": "shift"},
        {"surrogate": "kl"},
        {"residual": "held"},
        {"parameters": "*weight"},
        {"parameters": "*bias"},
        {"last": 2},
        {"chunk": 3},
    ],
    ids=str,
)
def test_it_is_the_score_with_weights_of_their_own(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(convolutions())
    used = []
    monkeypatch.setattr(
        scoring, "LAYERED", scoring.replace(LAYERED, way=lambda *given: used.append(1) or LAYERED.way(*given))
    )
    ours = dsf_score(model, pictures(), **options)
    assert used
    monkeypatch.setattr(scoring, "by_layers_of", lambda *_: False)
    for own, other in zip(ours, dsf_score(model, pictures(), **options), strict=True):
        assert (own - other).abs().max() <= 1e-11 * other.abs().max()


def test_it_is_the_score_of_maps_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(Tokens())
    assert by_layers_of(loss_of(model, "logits", "norm", None), pictures())
    ours = dsf_score(model, pictures(), augmentation="noise")
    monkeypatch.setattr(scoring, "by_layers_of", lambda *_: False)
    for own, other in zip(ours, dsf_score(model, pictures(), augmentation="noise"), strict=True):
        assert (own - other).abs().max() <= 1e-11 * other.abs().max()


def test_in_float32_it_is_as_near_to_float64_as_the_score_with_weights_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = convolutions()
    image = pictures(torch.float32)
    ours = dsf_score(model_of(module, torch.float32), image)[0]
    with monkeypatch.context() as patched:
        patched.setattr(scoring, "by_layers_of", lambda *_: False)
        theirs = dsf_score(model_of(module, torch.float32), image)[0]
    exact = dsf_score(model_of(module), image.double())[0]
    assert (ours - exact).abs().max() <= 3 * (theirs - exact).abs().max()
    assert (ours - theirs).abs().max() <= 5e-5 * exact.abs().max()


@pytest.mark.parametrize("cache", [1, 2, 3], ids=lambda n: f"{n} at a time")
@pytest.mark.parametrize(
    ("way", "kernel", "stride", "padding", "dilation", "groups", "views"),
    [
        ("by_grams", (3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
        ("by_grams", (1, 5), (1, 1), (0, 4), (1, 2), 1, 1),
        ("by_grams", (5, 3), (1, 1), (4, 1), (2, 1), 1, 1),
        ("by_columns", (3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
        ("by_columns", (2, 3), (3, 2), (0, 2), (1, 2), 1, 2),
        ("by_seen", (3, 3), (2, 2), (1, 1), (1, 1), 1, 1),
        ("by_seen", (2, 5), (3, 2), (0, 2), (1, 2), 2, 2),
        ("by_weights", (3, 3), (1, 1), (1, 1), (1, 1), 1, 2),
        ("by_weights", (1, 1), (2, 2), (0, 0), (1, 1), 4, 1),
        ("by_weights", (2, 5), (3, 2), (0, 2), (1, 2), 2, 1),
        ("by_weights", (5, 2), (2, 1), (5, 0), (3, 1), 4, 2),
    ],
)
def test_squares_are_those_of_the_weights(
    way: str, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int, views: int, cache: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The squared norm of each picture's gradient, and its derivatives, by torch.func."""
    window, how = Window(kernel, stride, padding, dilation, groups), (None, stride, padding, dilation, groups)
    w = torch.randn(16, 12 // groups, *kernel, dtype=torch.float64)
    x = torch.randn(3 * views, 12, 9, 8, dtype=torch.float64, requires_grad=True)
    d = torch.randn_like(F.conv2d(x, w, *how)).requires_grad_()
    gradient = torch.func.vmap(lambda x, d: torch.func.grad(lambda w: (F.conv2d(x, w, *how) * d).sum())(w))(
        x.unflatten(0, (3, views)), d.unflatten(0, (3, views))
    )
    monkeypatch.setattr(squares, "CACHE", cache)
    chosen = getattr(squares, way)
    found = squares.squared(x.detach(), d.detach(), 3, 1, lambda x, d, pictures: chosen(x, d, window, pictures))
    truth = gradient.square().sum((1, 2, 3, 4))
    for own, other in zip(found, (truth, *torch.autograd.grad(truth.sum() / 2, (x, d))), strict=True):
        assert (own - other).abs().max() <= 1e-12 * other.abs().max()


@pytest.mark.parametrize(
    ("way", "side", "channels", "stride", "groups"),
    [
        ("by_weights", 32, 32, 1, 1),
        ("by_weights", 16, 64, 1, 64),
        ("by_grams", 8, 64, 1, 1),
        ("by_seen", 16, 64, 2, 1),
        ("by_seen", 4, 64, 1, 2),
        ("by_columns", 32, 3, 1, 1),
    ],
)
def test_the_way_of_the_least_products_is_taken(
    way: str, side: int, channels: int, stride: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(squares, way, taken)
    x, d = torch.empty(2, channels, side, side), torch.empty(2, 64, side // stride, side // stride)
    with pytest.raises(InterruptedError):
        squares.convolution(x, d, Window((3, 3), (stride, stride), (1, 1), (1, 1), groups), 2)


@pytest.mark.parametrize("module", [Tied, Shifted, Turned])
def test_parameters_that_are_used_otherwise_have_weights_of_their_own(module: type[nn.Module]) -> None:
    model = model_of(module())
    loss = loss_of(model, "logits", "norm", None)
    assert not by_layers_of(loss, pictures())
    alone = [dsf_score(model, image[None])[0] for image in pictures()]
    assert torch.allclose(dsf_score(model, pictures())[0], torch.cat(alone), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("options", [{"distance": "l2"}, {"distance": "angle"}, {"gradient_clip": 0.1}], ids=str)
def test_distances_of_more_than_a_norm_are_not_taken_by_layers(options: dict[str, Any]) -> None:
    loss = loss_of(
        model_of(convolutions()), "logits", options.get("distance", "norm"), None, None, options.get("gradient_clip")
    )
    assert not by_layers_of(loss, pictures())


def test_nothing_is_kept_after_a_score() -> None:
    model = model_of(convolutions())
    dsf_score(model, pictures())
    gc.collect()
    gc.disable()
    try:
        dsf_score(model, pictures())
        kept = [one for one in gc.get_objects() if type(one) is Tensor and one.shape[:1] == (4,) and one.grad_fn]
    finally:
        gc.enable()
    assert not kept
