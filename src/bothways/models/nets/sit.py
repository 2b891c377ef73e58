"""The transformer of SiT and DiT over the patches of a latent, at its null class, with their names of weights.

    h <- h + gate_1 Attention(LN(h) (1 + scale_1) + shift_1),   h <- h + gate_2 MLP(LN(h) (1 + scale_2) + shift_2)
    (shift, scale, gate) = Linear(SiLU(c)),   c = MLP(sinusoids of the time) + the embedding of no class

What is read of the output are as many channels as x has; the other half of a network that learned variances is left
out. Peebles & Xie 2022, arXiv 2212.09748; Ma et al. 2024, arXiv 2401.08740.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}  # by the width: S, B, L, XL
SINUSOIDS, LONGEST = 256, 10_000.0  # numbers of an embedded time, and its longest period over 2 pi


class SiT(nn.Module):
    """x (B,channels,size,size), time (B,) -> (B,channels,size,size).

    size: of a side of the latent, a multiple of ``patch``. heads: of the attention. sigma: whether the last layer has
    twice the channels.
    """

    pos_embed: Tensor

    def __init__(
        self,
        size: int = 32,
        patch: int = 2,
        channels: int = 4,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        sigma: bool = True,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "size": size, "patch": patch, "channels": channels, "width": width, "depth": depth, "heads": heads,
            "sigma": sigma,
        }  # fmt: skip
        self.patch, self.channels, self.outputs = patch, channels, channels * (2 if sigma else 1)
        self.x_embedder, self.t_embedder = Patches(channels, width, patch), Times(width)
        self.null = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("pos_embed", _places(width, size // patch)[None])
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.final_layer = Last(width, patch**2 * self.outputs)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        high, wide = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        h = self.x_embedder(x) + self.pos_embed.to(x.dtype)
        c = self.t_embedder(time) + self.null
        for block in self.blocks:
            h = block(h, c)
        h = self.final_layer(h, c)
        h = h.view(len(x), high, wide, self.patch, self.patch, self.outputs).permute(0, 5, 1, 3, 2, 4)
        return h.reshape(len(x), self.outputs, high * self.patch, wide * self.patch)[:, : self.channels]


class Patches(nn.Module):
    """(B,channels,H,W) -> tokens (B,N,width), one a patch."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Times(nn.Module):
    """Times (B,) -> (B,width), through cosines and then sines of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SINUSOIDS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        half = SINUSOIDS // 2
        rates = torch.exp(-math.log(LONGEST) / half * torch.arange(half, dtype=time.dtype, device=time.device))
        angles = time[:, None] * rates
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1))


class Last(nn.Module):
    """Tokens h (B,N,width) and c (B,width) -> (B,N,outputs), zero at first."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.adaLN_modulation = nn.Linear(width, outputs), _modulation(width, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, 1)
        return self.linear(_modulated(h, shift, scale))


class Attention(nn.Module):
    """Attention of all tokens to all, (B,N,width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        batch, tokens, width = h.shape
        query, key, value = self.qkv(h).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).reshape(batch, tokens, width))


class Expanded(nn.Module):
    """Each token through four times its width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(h), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP on tokens h (B,N,width), both shifted, scaled and gated by c (B,width); no change at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(width, heads), Expanded(width)
        self.adaLN_modulation = _modulation(width, 6)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c).chunk(6, 1)
        h = h + gate_1[:, None] * self.attn(_modulated(h, shift_1, scale_1))
        return h + gate_2[:, None] * self.mlp(_modulated(h, shift_2, scale_2))


def _modulation(width: int, parts: int) -> nn.Sequential:
    made = nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))
    nn.init.zeros_(made[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(made[1].bias)  # type: ignore[arg-type]
    return made


def _modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def _places(width: int, side: int) -> Tensor:
    """(side^2, width): sines and cosines of the column, then of the row, in the order of the tokens."""
    rates = LONGEST ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    along = torch.arange(side, dtype=torch.float64)[:, None] * rates
    one = torch.cat([along.sin(), along.cos()], 1)
    columns, rows = one.repeat(side, 1), one.repeat_interleave(side, 0)
    return torch.cat([columns, rows], 1).float()
