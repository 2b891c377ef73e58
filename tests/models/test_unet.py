"""The U-Net: the sizes of the papers to the last parameter, and what every size must do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bothways.cli import main
from bothways.models.nets.unet import SIZES, Attention, Normalization, UNet, sinusoid
from bothways.numerics.draws import generator
from bothways.types import UserError
from zoo import seeded

PUBLISHED = {"unet-s": 42_375_939, "unet-m": 52_542_979, "unet-64": 121_060_483, "unet-torchcfm": 35_746_307}
SMALL: dict[str, dict[str, Any]] = {
    "tiny": SIZES["unet-tiny"],
    "patch": {"width": 32, "multiples": (1, 2), "blocks": 2, "attention": (2,), "patch": 2},
    "grey": {"channels": 1, "width": 32, "multiples": (1, 2), "blocks": 1, "attention": (1,)},
    "added time": {"width": 32, "multiples": (1, 1, 2), "blocks": 1, "scale_shift": False, "head_width": 16},
}


def test_pictures_that_do_not_go_in_are_one_line() -> None:
    net = UNet(**SMALL["patch"])
    with pytest.raises(UserError, match="cannot take pictures of 10x8 pixels; give sides that are multiples of 4"):
        net(torch.zeros(1, 3, 10, 8), torch.zeros(1))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(5, purpose="x"))


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_published_size_to_the_last_parameter(name: str) -> None:
    with torch.device("meta"):
        network = UNet(**SIZES[name])
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name]


def test_the_sizes_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["models"])
    said = capsys.readouterr().out
    for name in SIZES:
        (row,) = [line for line in said.splitlines() if f" {name} " in line]
        count = sum(p.numel() for p in UNet(**SIZES[name]).parameters()) if name not in PUBLISHED else PUBLISHED[name]
        assert f" {count / 1e6:.2f} " in row
    assert all(kind in said for kind in ("torchcfm:FILE.pt", "diffusers:google/ddpm-cifar10-32", "PATH/flow.json"))


@pytest.mark.parametrize("name", list(SMALL))
def test_a_velocity_has_the_shape_of_x_and_begins_at_zero(name: str) -> None:
    options = SMALL[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(**options).eval()
    x, time = normal(2, options.get("channels", 3), 8, 16), torch.tensor([0.0, 1000.0])
    assert network(x, time).shape == x.shape
    assert network(x, time).abs().max() == 0
    network = seeded(lambda: network)
    found = network(x, time)
    assert (found[0] - network(x[:1], time[:1])[0]).abs().max() < 1e-5  # a picture does not see the others
    assert (found - network(x, time.flip(0))).abs().max() > 1e-2  # time is seen
    assert found.isfinite().all()


@pytest.mark.parametrize("name", list(SMALL))
def test_channels_last_gives_the_same_numbers(name: str) -> None:
    options = SMALL[name]
    network = seeded(lambda: UNet(**options))
    x, time = normal(2, options.get("channels", 3), 8, 8), torch.tensor([100.0, 700.0])
    wanted = network(x, time)
    found = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), time)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max().clamp_min(1)


def test_every_parameter_of_a_size_matters() -> None:
    """A block that is built and never called would have no gradient."""
    for options in SMALL.values():
        network = seeded(lambda options=options: UNet(**options))
        network(normal(2, options.get("channels", 3), 8, 8), torch.tensor([1.0, 9.0])).square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_patch_folds_squares_of_pixels_and_back() -> None:
    """With everything between taken away, folding and unfolding leave a picture as it was."""
    network = UNet(width=32, multiples=(1,), blocks=1, attention=(), patch=2)
    network.stem, network.down, network.middle, network.up = nn.Identity(), *(nn.ModuleList() for _ in range(3))
    network.head = nn.Identity()
    x = normal(2, 3, 8, 8)
    assert torch.equal(network(x, torch.zeros(2)), x)


def test_attention_is_that_of_torch() -> None:
    attend, x = seeded(lambda: Attention(32, 8)), normal(2, 32, 4, 6)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    order = attend.project.weight.view(4, 3, 8, 32).transpose(0, 1).reshape(96, 32)  # theirs: all queries first
    bias = attend.project.bias.view(4, 3, 8).transpose(0, 1).reshape(96)
    held = {"in_proj_weight": order, "in_proj_bias": bias, "out_proj.weight": attend.out.weight}
    theirs.load_state_dict({**held, "out_proj.bias": attend.out.bias})
    tokens = attend.norm(x).flatten(2).transpose(1, 2)
    wanted = x + theirs(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)
    assert (attend(x) - wanted).abs().max() < 1e-5


def test_group_normalisation_in_either_layout_and_the_sinusoid() -> None:
    norm, x = Normalization(4, 16), normal(2, 16, 5, 7)
    wanted = nn.GroupNorm(4, 16)(x)
    found = norm(x.to(memory_format=torch.channels_last))
    assert (found - wanted).abs().max() < 1e-5
    assert found.is_contiguous(memory_format=torch.channels_last)
    time = torch.tensor([0.0, 0.5, 999.0], dtype=torch.float64)
    frequencies = 10000.0 ** (-torch.arange(16, dtype=torch.float64) / 16)
    wanted = torch.cat([torch.cos(time[:, None] * frequencies), torch.sin(time[:, None] * frequencies)], 1)
    assert (sinusoid(time, 32) - wanted).abs().max() < 1e-10
    assert sinusoid(time.bfloat16(), 32).dtype == torch.float32
