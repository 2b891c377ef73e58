"""A small flow on disk, in the form in which a run keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from bothways.models.nets.unet import UNet

OPTIONS = {"width": 8, "multiples": [1, 2], "blocks": 1, "attention": [2], "heads": 2}


def small_unet(channels: int = 3, seed: int = 0) -> UNet:
    """A U-Net of 8 channels whose last layers are not zero, so that it moves what it is given."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(channels=channels, **OPTIONS)  # type: ignore[arg-type]
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return network.eval()


def write_small_flow(folder: Path, *, size: int = 8, channel_order: str = "RGB", path: str = "linear") -> Path:
    """FOLDER/flow.json and its weights; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    channels = 1 if channel_order == "grey" else 3
    spec = {"size": size, "mean": [0.5] * 3, "std": [0.5] * 3, "classes": 0, "time_scale": 1000.0, "path": path}
    card = {
        "name": "small",
        "network": {"name": "unet", "channels": channels, **OPTIONS},
        "spec": {**spec, "channel_order": channel_order},
    }
    (folder / "flow.json").write_text(json.dumps(card))
    save_file(small_unet(channels).state_dict(), folder / "flow.safetensors")
    return folder


SOLVER = """
from bothways.numerics.solvers import at_time, fixed_grid

@fixed_grid(calls=2, order=2)
def own_midpoint(v, state, t, h):
    (x,) = state
    half = x + h / 2 * v(x, at_time(x, t))
    return (x + h * v(half, at_time(x, t + h / 2)),)
"""


def write_solver(folder: Path) -> str:
    """The address of a solver of one's own in a file of this folder: the package's midpoint under another name."""
    (folder / "solvers.py").write_text(SOLVER)
    return f"{folder / 'solvers.py'}:own_midpoint"
