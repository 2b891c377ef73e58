"""Small flows on latents, of random weights, on disk as their libraries save them: diffusers, SiT and DiT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bothways.numerics.draws import generator
from zoo import need, seeded

SIDE, FACTOR, CHANNELS = 8, 2, 4  # of a latent, pixels for one of it
PIXELS = SIDE * FACTOR
UNET = {
    "sample_size": SIDE, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4, "attention_head_dim": 8,
}  # fmt: skip
DIT = {
    "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": CHANNELS, "out_channels": 2 * CHANNELS,
    "num_layers": 2, "sample_size": SIDE, "patch_size": 2, "num_embeds_ada_norm": 10,
}  # fmt: skip
SD3 = {
    "sample_size": SIDE, "patch_size": 2, "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 2,
    "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 12, "caption_projection_dim": 16,
    "pooled_projection_dim": 10, "pos_embed_max_size": 8,
}  # fmt: skip


def need_diffusers() -> Any:
    need("vit")  # diffusers imports transformers, which minds a torchvision that does not fit
    return pytest.importorskip("diffusers")


def normal(*shape: int, purpose: str = "x") -> Tensor:
    return torch.randn(*shape, generator=generator(7, purpose=purpose), dtype=torch.float64)


def save_vae(folder: Path, **changes: Any) -> Any:
    """A small AutoencoderKL in a folder."""
    options = {
        "block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2, "norm_num_groups": 4,
        "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": CHANNELS, "sample_size": PIXELS,
    }  # fmt: skip
    made = seeded(lambda: need_diffusers().AutoencoderKL(**options | changes))
    made.save_pretrained(folder)
    return made


def save_pipeline(folder: Path, network: Any, scheduler: Any, *, vae: bool = True) -> Path:
    """A pipeline in diffusers' layout."""
    part = "unet" if type(network).__name__ == "UNet2DModel" else "transformer"
    network.save_pretrained(folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    if vae:
        save_vae(folder / "vae")
    return folder


def state(folder: Path, **facts: Any) -> None:
    """What no file of diffusers states; ``klass`` for the key "class"."""
    given = {("class" if key == "klass" else key): value for key, value in facts.items()}
    (folder / "bothways.json").write_text(json.dumps(given))


def of(kind: str, options: dict[str, Any], **changes: Any) -> nn.Module:
    """A network of diffusers of random weights."""
    return seeded(lambda: getattr(need_diffusers(), kind)(**options | changes))


def latent_unet(folder: Path) -> Path:
    """A flow-matching U-Net on latents, small enough to train: the address is its folder behind diffusers:."""
    network = of("UNet2DModel", UNET, in_channels=CHANNELS, out_channels=CHANNELS)
    return save_pipeline(folder, network, need_diffusers().FlowMatchEulerDiscreteScheduler())


# ---- SiT and DiT -----------------------------------------------------------------------------------------------------


def sit_shapes(width: int, depth: int, patch: int, side: int, classes: int = 1000, sigma: bool = True) -> Any:
    """{name: shape} of the weights of a released checkpoint of SiT or DiT."""
    outputs = patch**2 * CHANNELS * (2 if sigma else 1)
    linear = {"t_embedder.mlp.0": (width, 256), "t_embedder.mlp.2": (width, width)}
    for number in range(depth):
        inside = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width),
                  "mlp.fc2": (width, 4 * width), "adaLN_modulation.1": (6 * width, width)}  # fmt: skip
        linear |= {f"blocks.{number}.{name}": shape for name, shape in inside.items()}
    linear |= {"final_layer.linear": (outputs, width), "final_layer.adaLN_modulation.1": (2 * width, width)}
    found: dict[str, tuple[int, ...]] = {"pos_embed": (1, (side // patch) ** 2, width)}
    found |= {"x_embedder.proj.weight": (width, CHANNELS, patch, patch), "x_embedder.proj.bias": (width,)}
    found["y_embedder.embedding_table.weight"] = (classes + 1, width)
    for name, shape in linear.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def sit_weights(
    width: int = 384, depth: int = 2, patch: int = 4, side: int = SIDE, **changes: Any
) -> dict[str, Tensor]:
    """Random weights of a checkpoint."""
    source, found = generator(3, purpose="sit"), {}
    for name, shape in sit_shapes(width, depth, patch, side, **changes).items():
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 and "table" not in name and "pos" not in name else 1
        found[name] = torch.randn(shape, generator=source) * (0.5 / fan**0.5 if fan > 1 else 0.3)
    return found


def save_sit(folder: Path, name: str = "SiT-S-4-16x16.safetensors", **changes: Any) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint with its autoencoder beside it -> its file and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    held = sit_weights(**changes)
    save_file(held, folder / name) if name.endswith(".safetensors") else torch.save({"ema": held}, folder / name)
    save_vae(folder / "vae")
    return folder / name, held
