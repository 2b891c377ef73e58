"""Small transformer on convolutional tokens (after CCT, arXiv 2104.05704), without batch normalisation.

    x <- x + Local(x),  x <- x + Attention(LayerNorm(x)),  x <- x + MLP(LayerNorm(x))
    Attention = softmax(q k^T / sqrt(d)) v
    Local = a depthwise 3x3 convolution over the token grid (CPVT, arXiv 2102.10882)

Attention is written out, since the fused CPU kernels can be differentiated only once and are slower to train.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm transformer block with a depthwise convolution, on tokens (B,N,D)."""

    def __init__(self, width: int, heads: int, expansion: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.local = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.query_key_value(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)  # (B,heads,N,N)
        return self.mix((weights @ v).transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        side = round(tokens**0.5)
        grid = x.transpose(1, 2).reshape(batch, width, side, side)
        x = x + self.local(grid).flatten(2).transpose(1, 2)
        x = x + self.attend(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class AttentionNet(nn.Module):
    """Transformer classifier, (B,3,size,size) -> (B,classes): four convolutions give (size/4)^2 tokens."""

    def __init__(
        self, classes: int = 10, size: int = 32, width: int = 128, depth: int = 4, heads: int = 4, stem: int = 32
    ) -> None:
        super().__init__()
        self.tokenizer = nn.Sequential(
            nn.Conv2d(3, stem, 3, 1, 1),
            nn.GELU(),
            nn.Conv2d(stem, 2 * stem, 3, 2, 1),
            nn.GroupNorm(1, 2 * stem),
            nn.GELU(),
            nn.Conv2d(2 * stem, 2 * stem, 3, 1, 1),
            nn.GroupNorm(1, 2 * stem),
            nn.GELU(),
            nn.Conv2d(2 * stem, width, 3, 2, 1),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // 4) ** 2, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.pool = TokenMean()
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokenizer(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.pool(self.norm(self.blocks(tokens))))


class TokenMean(nn.Module):
    """Mean over tokens, (B,N,D) -> (B,D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)
