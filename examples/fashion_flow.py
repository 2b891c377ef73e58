"""A diffusion model of 606,852 parameters on clothes of 28 pixels (Fashion-MNIST, by niuwengang), read as a flow.

bothways sample examples/fashion_flow.py:build --n 64 --steps 60 --out runs/clothes
bothways walk examples/fashion_flow.py:build runs/clothes/images/0004-picture.png

It predicts noise at the levels of a schedule of 1,000. Time enters through a table of sines and cosines, whose rates
are read from its second row, so that it is defined between levels too. Its weights are GPL-3.0 and not part of this.
"""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec
from bothways.representation.paths.scheduled import scheduled
from bothways.types import PathWeights

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights" / "niuwengang_ddpm_fashion" / "model.safetensors"
LEVELS = 1000
SCHEDULE = scheduled((1 - torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64)).cumprod(0))
TIMES = {"te1": 1, "te2": 10, "te3": 20, "te_mid": 40, "te4": 80, "te5": 40, "te_out": 20}  # what each is added to
STAGES = {  # channels through the three blocks of a stage, and its side
    "b1": ((1, 10, 10, 10), 28), "b2": ((10, 20, 20, 20), 14), "b3": ((20, 40, 40, 40), 7),
    "b_mid": ((40, 20, 20, 40), 3), "b4": ((80, 40, 20, 20), 7), "b5": ((40, 20, 10, 10), 14),
    "b_out": ((20, 10, 10, 10), 28),
}  # fmt: skip


def levels(t: Tensor) -> PathWeights:
    """The path of its schedule."""
    return SCHEDULE(t)


class Velocity(nn.Module):
    """The velocity (x, t) -> v of its schedule, with the picture that it predicts kept in [-1, 1].

        X = clip((x - s e) / a),   v = a' X + s' (x - a X) / s

    LayerNorm over the whole map hides the brightness of a picture from the network, so that without the clip errors of
    it add up on the way: 12 walks of 60 steps ended at an rms of 7, where pictures have less than 1.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a, s, da, ds = (weight.view(-1, 1, 1, 1) for weight in levels(t))
        clean = ((x - s * self.network(x, (1 - t) * (LEVELS - 1))) / a).clamp(-1, 1)
        return da * clean + ds * (x - a * clean) / s


class Block(nn.Module):
    """LayerNorm over the whole map, and twice a 3x3 convolution with SiLU. The last of all has no norm in use."""

    def __init__(self, entering: int, leaving: int, side: int) -> None:
        super().__init__()
        self.ln, self.normed = nn.LayerNorm((entering, side, side)), True
        self.conv1, self.conv2 = nn.Conv2d(entering, leaving, 3, padding=1), nn.Conv2d(leaving, leaving, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(self.ln(x) if self.normed else x))))


class Clothes(nn.Module):
    """x (B,1,28,28), level (B,) from 0 to 999, whole or between -> the noise in x."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Embedding(LEVELS, 100).requires_grad_(False)
        for name, width in TIMES.items():
            self.add_module(name, nn.Sequential(nn.Linear(100, width), nn.SiLU(), nn.Linear(width, width)))
        for name, (channels, side) in STAGES.items():
            self.add_module(name, nn.Sequential(*(Block(a, b, side) for a, b in pairwise(channels))))
        self.b_out[-1].normed = False
        self.down1, self.down2 = nn.Conv2d(10, 10, 4, 2, 1), nn.Conv2d(20, 20, 4, 2, 1)
        self.down3 = nn.Sequential(nn.Conv2d(40, 40, 2), nn.SiLU(), nn.Conv2d(40, 40, 4, 2, 1))
        self.up1 = nn.Sequential(nn.ConvTranspose2d(40, 40, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(40, 40, 2))
        self.up2, self.up3 = nn.ConvTranspose2d(20, 20, 4, 2, 1), nn.ConvTranspose2d(10, 10, 4, 2, 1)
        self.conv_out = nn.Conv2d(10, 1, 3, padding=1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        sines, cosines = self.time_embed.weight[1, ::2], self.time_embed.weight[1, 1::2]
        angles = level[:, None] * torch.atan2(sines, cosines)
        table = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)

        def stage(name: str, h: Tensor) -> Tensor:
            added = getattr(self, name.replace("b", "te", 1))(table)
            return getattr(self, name)(h + added[:, :, None, None])

        one = stage("b1", x)
        two = stage("b2", self.down1(one))
        three = stage("b3", self.down2(two))
        h = torch.cat([three, self.up1(stage("b_mid", self.down3(three)))], 1)
        h = torch.cat([two, self.up2(stage("b4", h))], 1)
        return self.conv_out(stage("b_out", torch.cat([one, self.up3(stage("b5", h))], 1)))


def build() -> tuple[nn.Module, ModelSpec]:
    network = Clothes()
    network.load_state_dict(load_file(WEIGHTS))
    told = {"source": "github.com/niuwengang/mnist_ddpm", "licence": "GPL-3.0"}
    facts = {"size": 28, "mean": 0.5, "std": 0.5, "classes": 0, "channel_order": "grey", "path": f"{__file__}:levels"}
    return Velocity(network), ModelSpec(**facts, **told)
