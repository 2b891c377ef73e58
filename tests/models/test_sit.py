"""Checkpoints of SiT and DiT: every size from its shapes, the velocity against the network written out in float64."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from bothways import UserError, load_flow
from bothways.models.libraries.sit_flows import options_of
from bothways.models.nets.sit import SiT
from latent_flows import CHANNELS, PIXELS, SIDE, need_diffusers, normal, save_sit, sit_shapes, sit_weights

T = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
Z = normal(3, CHANNELS, SIDE, SIDE)
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def refused(address: str) -> str:
    with pytest.raises(UserError) as caught:
        load_flow(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written_out(held: dict[str, Tensor], x: Tensor, time: Tensor, heads: int = 6) -> Tensor:
    """The network of the paper at label 1000, by the names in the file alone; all channels out."""
    held = {name: value.double() for name, value in held.items()}

    def linear(h: Tensor, name: str) -> Tensor:
        return h @ held[f"{name}.weight"].T + held[f"{name}.bias"]

    def silu(h: Tensor) -> Tensor:
        return h / (1 + torch.exp(-h))

    def normalised(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        flat = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return flat * (1 + scale[:, None]) + shift[:, None]

    angles = time[:, None] * torch.tensor([10000 ** (-k / 128) for k in range(128)], dtype=torch.float64)
    c = linear(silu(linear(torch.cat([angles.cos(), angles.sin()], 1), "t_embedder.mlp.0")), "t_embedder.mlp.2")
    c = c + held["y_embedder.embedding_table.weight"][1000]
    patch = held["x_embedder.proj.weight"].shape[-1]
    h = F.conv2d(x, held["x_embedder.proj.weight"], held["x_embedder.proj.bias"], stride=patch)
    side, h = h.shape[-1], h.flatten(2).transpose(1, 2) + held["pos_embed"]
    depth = sum(name.endswith("attn.qkv.weight") for name in held)
    for block in (f"blocks.{number}" for number in range(depth)):
        one, two, three, four, five, six = linear(silu(c), f"{block}.adaLN_modulation.1").chunk(6, 1)
        attended = []
        three_ways = linear(normalised(h, one, two), f"{block}.attn.qkv").chunk(3, -1)
        for query, key, value in zip(*(part.chunk(heads, -1) for part in three_ways), strict=True):
            share = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]), -1)
            attended.append(share @ value)
        h = h + three[:, None] * linear(torch.cat(attended, -1), f"{block}.attn.proj")
        inner = linear(normalised(h, four, five), f"{block}.mlp.fc1")
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        h = h + six[:, None] * linear(inner, f"{block}.mlp.fc2")
    shift, scale = linear(silu(c), "final_layer.adaLN_modulation.1").chunk(2, 1)
    h = linear(normalised(h, shift, scale), "final_layer.linear")
    outputs = h.shape[-1] // patch**2
    found = torch.empty(len(x), outputs, side * patch, side * patch, dtype=torch.float64)
    for token in range(side**2):
        row, column = token // side * patch, token % side * patch
        cell = h[:, token].view(-1, patch, patch, outputs).permute(0, 3, 1, 2)
        found[:, :, row : row + patch, column : column + patch] = cell
    return found


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_size_and_patch_is_read_from_the_shapes(size: str, patch: int) -> None:
    width, depth, heads = SIZES[size]
    for sigma in (True, False):
        shapes = sit_shapes(width, depth, patch, 32, sigma=sigma)
        found = options_of({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, "flow")
        wanted = {"size": 32, "patch": patch, "channels": CHANNELS, "width": width, "depth": depth, "heads": heads}
        assert found == {**wanted, "sigma": sigma}
        with torch.device("meta"):
            network = SiT(**found)
        own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        table = "y_embedder.embedding_table.weight"
        assert own | {table: shapes[table]} == shapes | {"null": (width,)}
    if (size, patch) == ("XL", 2):  # 675 M, less the rows of a thousand classes, and half of what the last layer gives
        assert (
            sum(value.numel() for value in network.parameters()) == 675_129_632 - 1000 * 1152 - 16 * 1153 - 256 * 1152
        )


@pytest.mark.parametrize(("patch", "sigma", "name"), [(4, True, "a.safetensors"), (2, False, "SiT-S-2.pt")])
def test_the_velocity_of_sit(tmp_path: Path, patch: int, sigma: bool, name: str) -> None:
    file, held = save_sit(tmp_path, name, patch=patch, sigma=sigma)
    flow = load_flow(f"sit:{file}")
    assert (flow.spec.path, flow.spec.size, flow.shape) == ("linear", PIXELS, (CHANNELS, SIDE, SIDE))
    wanted = written_out(held, Z, T)[:, :CHANNELS]
    with torch.no_grad():
        assert apart(flow.double()(Z, T), wanted) < 1e-9 * float(wanted.abs().max())
        assert apart(load_flow(f"sit:{tmp_path}").double()(Z, T), wanted) < 1e-9 * float(wanted.abs().max())
    picture = torch.rand(2, 3, PIXELS, PIXELS, dtype=torch.float64)
    vae = need_diffusers().AutoencoderKL.from_pretrained(tmp_path / "vae").double()
    with torch.no_grad():
        assert apart(flow.code(picture), 0.18215 * vae.encode(2 * picture - 1).latent_dist.mode()) < 1e-10


def test_the_velocity_of_dit(tmp_path: Path) -> None:
    """epsilon at level 999 (1 - t) of betas from 1e-4 to .02, the variances left out."""
    file, held = save_sit(tmp_path, "DiT-S-4.safetensors")
    flow = load_flow(f"dit:{file}")
    logs = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().log1p().cumsum(0)
    t = torch.tensor([0, 300, 999]).double() / 999
    level = (999 - 999 * t).round().long()
    a = (logs[level] / 2).exp().view(-1, 1, 1, 1)
    said = written_out(held, Z, level.double())[:, :CHANNELS]
    # d log a / dt from the level to the next one, as the path is between levels; the last takes that before it
    low = level.clamp(max=998)
    slope = (-999 * (logs[low + 1] - logs[low]) / 2).view(-1, 1, 1, 1)
    s = (1 - a**2).sqrt()
    wanted = slope * a * (Z - s * said) / a - slope * a**2 / s * said
    with torch.no_grad():
        assert apart(flow.double()(Z, t), wanted) < 1e-4 * float(wanted.abs().max())  # their table is of float32


def test_a_new_network_has_the_places_of_the_released_one() -> None:
    made = SiT(size=8, patch=2, width=384, depth=1)
    rates = [10000 ** (-k / 96) for k in range(96)]
    wanted = [
        [f(place * rate) for place in (token % 4, token // 4) for f in (math.sin, math.cos) for rate in rates]
        for token in range(16)
    ]
    assert apart(made.pos_embed[0], torch.tensor(wanted)) < 1e-6
    assert made(torch.randn(2, 4, 8, 8), torch.rand(2)).abs().max() == 0


def test_other_layouts_are_refused_by_names_expected_and_found(tmp_path: Path) -> None:
    file, held = save_sit(tmp_path / "a", "x.safetensors")
    assert "type dit:" in refused(f"sit:{save_sit(tmp_path / 'b', 'DiT-XL-2.safetensors')[0]}")
    assert "type sit:" in refused(f"dit:{save_sit(tmp_path / 'c', 'SiT-XL-2.safetensors')[0]}")
    assert "the file does not exist; type sit:FILE.safetensors" in refused("sit:none.pt")
    save_file(held, file.with_name("y.safetensors"))
    assert "the folder holds x.safetensors, y.safetensors" in refused(f"sit:{tmp_path / 'a'}")
    assert "leave spec= and weights= out" in str(_caught(file))
    for changes, said in (
        ({"pos_embed": None}, "expected pos_embed, found "),
        ({"blocks.1.attn.qkv.bias": None}, "missing in the file: blocks.1.attn.qkv.bias"),
        ({"head.weight": torch.ones(2)}, "not in the model: head.weight"),
        ({"pos_embed": torch.ones(1, 3, 384)}, "3 places of patches, not a square"),
        ({"final_layer.linear.bias": torch.ones(3)}, "final_layer.linear.bias (3,) for (128,)"),
        ({"x_embedder.proj.weight": torch.ones(100, 4, 4, 4)}, "a width of 100; those of SiT and DiT are 384, 768"),
    ):
        save_file({k: v for k, v in (held | changes).items() if v is not None}, file)
        assert said in refused(f"sit:{file}")
    torch.save({"model": held, "args": 3}, file.with_name("z.pt"))
    assert "holds neither 'ema' nor tensors by name, but model, args" in refused(f"sit:{file.with_name('z.pt')}")
    torch.save(torch.nn.Linear(2, 2), file.with_name("z.pt"))
    assert "cannot be read by torch.load(weights_only=True)" in refused(f"sit:{file.with_name('z.pt')}")


def _caught(file: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        load_flow(f"sit:{file}", weights=file)
    return caught.value


def test_a_checkpoint_of_a_training_and_an_autoencoder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {f"module.{name}": value for name, value in sit_weights().items()}
    file, _ = save_sit(tmp_path / "a", "x.safetensors")
    kept = {"ema": held, "model": {}, "opt": {"state": {}}, "args": argparse.Namespace(model="SiT-S/4")}
    torch.save(kept, tmp_path / "a" / "0050000.pt")
    one, other = load_flow(f"sit:{tmp_path / 'a' / '0050000.pt'}"), load_flow(f"sit:{file}")
    with torch.no_grad():
        assert torch.equal(one(Z.float(), T.float()), other(Z.float(), T.float()))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "diffusers", None)
        assert 'needs diffusers, which is not installed; type pip install "bothways[diffusers]"' in refused(
            f"sit:{file}"
        )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a" / "vae").rename(tmp_path / "vae")
    place = tmp_path / "a" / "vae"
    assert f"no autoencoder in {place}: type hf download stabilityai/sd-vae-ft-mse --local-dir {place}" in refused(
        f"sit:{file}"
    )
