"""The adapter against hand computations in float64, and everything that a user's module can get wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.models.calls import moments_of
from bothways.models.nets.attention import AttentionNet
from bothways.models.nets.plain import PlainNet
from bothways.models.nets.resnet import ResNet
from bothways.types import ModelSpec, RunError, UserError

MEAN, STD = (0.1, 0.45, 0.7), (0.2, 0.3, 0.5)


class Through(nn.Module):
    """What the module is shown, flattened; or whatever ``function`` makes of it."""

    def __init__(self, function: Callable[[Tensor], object] = lambda x: x) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def spec(classes: int = 4, size: int | tuple[int, int] = 8, **facts: object) -> ModelSpec:
    return ModelSpec(size, MEAN, STD, classes, **facts)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = [nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True)]
        return nn.Sequential(*first, nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def pictures(count: int = 2, size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def shown(image: Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """(image - mean) / std, a channel at a time."""
    return torch.stack([(image[:, c] - mean[c]) / std[c] for c in range(3)], 1)


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mean_and_std_are_applied_channel_by_channel_in_float64() -> None:
    image = pictures(dtype=torch.float64)
    found = Adapter(Through(), spec(0)).outputs(image)
    assert found.dtype == torch.float64
    assert (found - shown(image).flatten(1)).abs().max() < 1e-14


def test_mean_and_std_are_kept_for_the_models_own_pictures_and_have_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        model = Adapter(Through(lambda x: x * x), spec(0))
    made = []

    def counted(given: ModelSpec, like: Tensor) -> tuple[Tensor, Tensor]:
        made.append(like.dtype)
        return moments_of(given, like)

    monkeypatch.setattr("bothways.models.adapter.moments_of", counted)
    image = pictures().requires_grad_()
    model.outputs(image).sum().backward()
    assert image.grad is not None
    assert made == []
    assert model.outputs(image.detach().double()).dtype == torch.float64  # of another precision they are made anew
    assert made == [torch.float64]


def test_bgr_turns_the_channels_and_mean_is_in_the_models_own_order() -> None:
    image = pictures(dtype=torch.float64)
    found = Adapter(Through(), spec(0, channel_order="BGR")).outputs(image)
    assert (found - shown(image[:, [2, 1, 0]]).flatten(1)).abs().max() < 1e-14


def test_caffe_weights_on_0_to_255() -> None:
    facts = ModelSpec(8, (104 / 255, 117 / 255, 123 / 255), (1 / 255,) * 3, 0, "BGR")
    image = pictures(dtype=torch.float64)
    wanted = 255 * image[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert (Adapter(Through(), facts).outputs(image) - wanted.flatten(1)).abs().max() < 1e-11


def test_the_gradient_reaches_the_picture_through_std() -> None:
    image = pictures(dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(Adapter(Through(), spec(0)).outputs(image).sum(), image)
    wanted = 1 / torch.tensor(STD, dtype=torch.float64).view(1, 3, 1, 1).expand_as(image)
    assert (gradient - wanted).abs().max() < 1e-13


def test_inputs_and_outputs_of_layers_equal_a_manual_forward_even_before_an_in_place_activation() -> None:
    net = network().double()
    model, image = Adapter(net, spec()), pictures(dtype=torch.float64)
    seen = model.features(image, ["0", "1:input", "1", "2:input", "2", "3:input", "outputs"])
    a = net[0](shown(image))
    b = net[1](a)
    wanted = {"0": a, "1:input": a, "1": b, "2:input": b, "2": b.relu(), "3:input": b.relu()}
    for layer, value in wanted.items():
        assert (seen[layer] - value).abs().max() < 1e-13, layer
    assert (seen["outputs"] - net[3](b.relu()).mean((2, 3))).abs().max() < 1e-13
    (gradient,) = torch.autograd.grad(seen["1"].sum(), net[0].weight)
    assert gradient.abs().max() > 0


def test_features_is_one_forward_pass() -> None:
    calls = []
    model = Adapter(Through(lambda x: (calls.append(1), x)[1]), spec(0))
    calls.clear()
    model.features(pictures(), ["outputs", ":input"])
    assert len(calls) == 1


def test_hooks_are_gone_afterwards_and_after_every_failure() -> None:
    net = network()
    model = Adapter(net, spec(feature_layer="4"))
    model.features(pictures(), ["0", "1:input"])
    assert hooks(net) == 0
    with pytest.raises(UserError):
        model.features(pictures(), ["0", "1:input", "unknown"])
    assert hooks(net) == 0
    with pytest.raises(UserError):
        model.features(pictures(size=2), ["0", "1:input"])
    assert hooks(net) == 0


def test_parameters_and_buffers_are_left_as_they_are() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    model = Adapter(net.train(), spec())
    image = pictures().requires_grad_()
    torch.autograd.grad(model.outputs(image).sum(), image)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 5
    assert all(p.grad is None for p in net.parameters())
    assert all(part.training for part in net.modules())


def test_a_network_that_views_its_maps_as_vectors_works() -> None:
    class Lenet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).view(x.shape[0], -1))

    net, image = Lenet(), pictures()
    wanted = net(shown(image)).detach()
    assert (Adapter(net, spec()).outputs(image) - wanted).abs().max() < 1e-5


def test_a_channels_last_network_and_a_batch_agree_with_each_picture_alone() -> None:
    model, image = Adapter(network().to(memory_format=torch.channels_last), spec()), pictures(5)
    alone = torch.cat([model.outputs(picture[None]) for picture in image])
    assert (model.outputs(image) - alone).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", ["bf16", "float16"])
def test_low_precision_gives_float32_outputs_and_activations(dtype: str) -> None:
    low, high, image = Adapter(network(), spec(), dtype=dtype), Adapter(network(), spec()), pictures()
    seen = low.features(image, ["0", "3:input", "outputs"])
    assert {value.dtype for value in seen.values()} == {torch.float32}
    difference = (seen["outputs"] - high.outputs(image)).abs().max()
    assert 0 < difference < 0.05


def test_batch_norm_statistics_are_the_stored_ones_of_the_layers_that_keep_them() -> None:
    net = network()
    net[1].running_mean.uniform_(-1, 1)
    net.insert(4, nn.BatchNorm2d(4, track_running_stats=False))
    found = Adapter(net, spec()).batch_norm_statistics()
    assert list(found) == ["1:input"]
    assert torch.equal(found["1:input"][0], net[1].running_mean)
    assert torch.equal(found["1:input"][1], net[1].running_var)
    net[1] = nn.GroupNorm(1, 5)
    assert Adapter(net, spec()).batch_norm_statistics() == {}


def test_statistics_layers_are_what_enters_the_norms_or_else_what_leaves_the_convolutions() -> None:
    assert Adapter(network(), spec()).statistics_layers() == ["1:input"]
    assert Adapter(PlainNet(4, (8, 8), (1, 1)), spec()).statistics_layers() == ["layers.1:input", "layers.4:input"]
    without = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert Adapter(without, spec()).statistics_layers() == ["0"]
    attention = Adapter(AttentionNet(4, size=8, width=8, depth=1, heads=2, stem=4), spec())
    assert {"blocks.0.norm_attention:input", "norm:input"} < set(attention.statistics_layers())
    attention.features(pictures(), attention.statistics_layers())


@pytest.mark.parametrize(
    "module",
    [
        ResNet(4, (6, 8), (0, 1)),
        PlainNet(4, (8, 16), (1, 1)),
        AttentionNet(4, size=8, width=8, depth=1, heads=2, stem=4),
    ],
)
def test_the_networks_of_the_catalogue_can_be_differentiated_twice(module: nn.Module) -> None:
    model, image = Adapter(module, spec()), pictures().requires_grad_()
    assert model.outputs(image).shape == (2, 4)
    (first,) = torch.autograd.grad(model.outputs(image).square().sum(), image, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), image)
    assert torch.isfinite(second).all()
    assert second.abs().max() > 0


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    model = Adapter(PlainNet(4, (8,), (1,)), spec())
    for layer in ("layer.0", "layers.0:middle", "heat"):
        with pytest.raises(UserError) as error:
            model.features(pictures(), [layer])
        assert layer in one_line(error)
    with pytest.raises(UserError, match=r"nearest are .*head"):
        model.features(pictures(), ["heat"])
    with pytest.raises(UserError, match=r"no layer 'pol'.*pool"):
        Adapter(PlainNet(4, (8,), (1,)), spec(feature_layer="pol"))


def test_a_layer_that_no_tensor_passes_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle, self.pair = nn.Linear(2, 2), Through(lambda x: (x, x))

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0].mean((2, 3))

    model = Adapter(Odd(), spec(3))
    for layer in ("idle", "idle:input", "pair"):
        with pytest.raises(UserError, match=layer) as error:
            model.features(pictures(), [layer])
        one_line(error)


def refuses(message: str) -> Callable[[Tensor], Tensor]:
    def check(x: Tensor) -> Tensor:
        assert x.shape[-1] == 8, message
        return x.mean((2, 3))

    return check


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3)),
        Through(refuses("input width does not match")),
        Through(refuses("")),
    ],
)
def test_a_size_that_the_model_cannot_take_is_named_with_the_one_it_can(module: nn.Module) -> None:
    with pytest.raises(UserError, match=r"cannot take 12x12.*--size 8") as error:
        Adapter(module, spec(3)).outputs(pictures(size=12))
    one_line(error)


@pytest.mark.parametrize(
    ("module", "facts", "said"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1)), spec(), "3 channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 49, 4)), spec(), "8x8"),
        (network(), spec(5), "4 outputs.*5 classes"),
        (network(), spec(["cat", "dog"]), "4 outputs.*2 classes"),
        (Through(lambda x: {"logits": x}), spec(), "returns a dict"),
        (Through(lambda x: x.mean((1, 2, 3))), spec(1), r"shape \(1,\)"),
        (network(), None, "ModelSpec"),
        (network(), {"size": 8}, "ModelSpec"),
    ],
)
def test_wrong_facts_are_found_before_anything_is_drawn(module: nn.Module, facts: ModelSpec, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        Adapter(module, facts)
    one_line(error)


def test_an_unknown_dtype_is_answered_with_the_known() -> None:
    with pytest.raises(UserError, match="float32, bf16, float16"):
        Adapter(network(), spec(), dtype="fp8")


def test_the_end_of_memory_is_no_mistake_of_the_pictures_size() -> None:
    def full(x: Tensor) -> Tensor:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    with pytest.raises(RunError, match="memory"):
        Adapter(Through(full), spec(0)).outputs(pictures())


def test_a_picture_need_not_be_square() -> None:
    model = Adapter(network(), spec(size=(6, 10)))
    assert model.outputs(torch.rand(1, 3, 6, 10)).shape == (1, 4)


class WithOtherHeads(nn.Module):
    """The head is no last linear map with a row a class: one is of another task, one gives what the outputs begin with.

    scaled: the outputs are no linear map's, so that the last that is called counts.
    """

    def __init__(self, scaled: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.rotation, self.auxiliary, self.scaled = nn.Linear(8, 4), nn.Linear(8, 4), scaled

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.body(x).relu().mean((2, 3))
        self.auxiliary(pooled)
        return self.head(pooled) * (2 if self.scaled else 1)


@pytest.mark.parametrize(("scaled", "name"), [(False, "head"), (True, "auxiliary")])
def test_the_head_is_what_gives_the_outputs_and_never_what_is_not_called(scaled: bool, name: str) -> None:
    model = Adapter(WithOtherHeads(scaled), ModelSpec(8, 0.5, 0.5, 4))
    found = model.head()
    assert found is not None
    assert found[0] == f"{name}:input"
    assert torch.equal(found[1], getattr(model.module, name).weight)
    assert model.features(torch.rand(2, 3, 8, 8), [model.feature()])[f"{name}:input"].shape == (2, 8)
