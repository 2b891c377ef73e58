"""A flow's own activations: those of one pass at that time, of the picture or of its place on the path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bothways import ModelSpec, UserError
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.activations import activations, middle_layer, spatial_mean
from bothways.representation.paths.gvp import gvp
from small_flow import small_unet

SPEC = ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)


def flow() -> Flow:
    return Flow(small_unet(), SPEC).double()


def pictures(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 4, 4, generator=generator(2, purpose="pictures"), dtype=torch.float64)


def written_out(network: nn.Module, x: Tensor, time: float) -> Tensor:
    """The U-Net down to its middle, by hand."""
    from bothways.models.nets.unet import sinusoid

    moment = network.time(sinusoid(torch.full((len(x),), time, dtype=x.dtype), network.width))
    h = network.stem(x)
    for stage in (*network.down, *network.middle):
        h = stage(h, moment)
    return h


def test_the_middle_is_what_the_network_has_there_at_that_time() -> None:
    one, x = flow(), pictures()
    assert middle_layer(one) == "network.middle"
    wanted = written_out(one.network, x, 900.0)
    seen = activations(one, x, 0.1, ["network.middle"], pooled=False)["network.middle"]
    assert (seen - wanted).abs().max() < 1e-12
    assert (seen - written_out(one.network, x, 500.0)).abs().max() > 1e-3  # the time does matter
    pooled = activations(one, x, 0.1, ["network.middle"])["network.middle"]
    assert (pooled - wanted.mean((2, 3))).abs().max() < 1e-12


def test_noise_is_put_on_along_the_path() -> None:
    one, x = flow(), pictures()
    noise = torch.randn(1, 3, 4, 4, generator=generator(7), dtype=torch.float64)
    seen = activations(one, x, 0.3, ["network.stem"], path=gvp, noise=noise)["network.stem"]
    angle = torch.tensor(torch.pi * 0.7 / 2, dtype=torch.float64)
    place = angle.sin() * x + angle.cos() * noise
    assert (seen - one.network.stem(place).mean((2, 3))).abs().max() < 1e-12


def test_gradients_reach_the_picture_and_the_parameters() -> None:
    one, x = flow(), pictures().requires_grad_()
    weight = torch.randn(16, generator=generator(4), dtype=torch.float64)
    parameters = [one.network.stem.weight, one.network.middle[1].residual.conv1.weight, x]
    found = (activations(one, x, 0.1, [middle_layer(one)])[middle_layer(one)] @ weight).sum()
    wanted = (written_out(one.network, x, 900.0).mean((2, 3)) @ weight).sum()
    pairs = zip(*(torch.autograd.grad(value, parameters) for value in (found, wanted)), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) < 1e-10


def test_the_pass_ends_where_nothing_more_is_asked_and_leaves_no_hook() -> None:
    one, passed = flow(), []
    activations(one, pictures(), 0.1, ["network.up"])  # where a layer has its channels is looked up once
    one.network.up[0].register_forward_hook(lambda *_: passed.append("up"))
    activations(one, pictures(), 0.1, ["network.stem", "network.middle"])
    assert passed == []
    activations(one, pictures(), 0.1, ["network.stem", "network.up"])
    assert passed == ["up"]
    assert not any(module._forward_hooks for module in one.modules() if module is not one.network.up[0])


def test_several_layers_come_in_the_order_asked() -> None:
    seen = activations(flow(), pictures(), 0.2, ["network.middle", "network.down.0", "network.time"])
    assert list(seen) == ["network.middle", "network.down.0", "network.time"]
    assert [value.shape for value in seen.values()] == [(3, 16), (3, 8), (3, 32)]


def test_in_half_precision_what_comes_out_is_single() -> None:
    one = Flow(small_unet(), SPEC)
    with torch.autocast("cpu", torch.bfloat16):
        seen = activations(one, pictures().float(), 0.1, ["network.middle"])["network.middle"]
    assert seen.dtype == torch.float32


def test_tokens_and_vectors() -> None:
    x = torch.randn(2, 5, 7, generator=generator(1))
    assert torch.equal(spatial_mean(x), x.mean(1))
    assert torch.equal(spatial_mean(x[:, 0]), x[:, 0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": ["network.midle"]}, "network.middle"),
        ({"layers": [""]}, "type one that it has"),
        ({"depth": 1.5}, "depth=1.5; type a number from 0"),
        ({"noise": torch.zeros(1, 3, 4, 4)}, "give path= too"),
        ({"layers": ["network.middle.1.nothing"]}, "returns no tensor"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict, says: str) -> None:
    one = flow()
    one.network.middle[1].nothing = nn.Identity()
    asked = {"depth": 0.1, "layers": ["network.middle"], **options}
    with pytest.raises(UserError, match=says) as said:
        activations(one, pictures(), **asked)
    assert "\n" not in str(said.value)


def test_the_middle_of_another_network_is_not_guessed() -> None:
    other = nn.ModuleDict({"network": nn.ModuleDict({"mid_block": nn.Conv2d(3, 3, 1), "head": nn.Conv2d(3, 3, 1)})})
    with pytest.raises(UserError, match=r"no layer 'network.middle'; type one that it has: network.mid_block"):
        middle_layer(other)
