"""A small CLIP of product photographs, 80 pixels (by rohitkuk, trained on the fashion product images of Myntra).

    bothways generate examples/fashion_clip.py:build --prompt sandal
    bothways generate examples/fashion_clip.py:words --class sandal watches

``build`` returns three things: the image tower, its facts, and a function that encodes prompts. ``words`` is a
classifier of the 45 words that the network was trained with, by the cosine to each. Its photographs were fitted into
80x80 with black at the sides, so pictures may show such bars.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights" / "mira_clip_fashion" / "model.safetensors"
LENGTH = 32  # bytes of a prompt, with its start and end
START, END = b"\x02", b"\x03"
WORDS = (
    "topwear", "bottomwear", "watches", "socks", "shoes", "belts", "flip flops", "bags", "innerwear", "sandal",
    "shoe accessories", "fragrance", "jewellery", "lipstick", "saree", "eyewear", "nail polish", "scarves", "dress",
    "loungewear and nightwear", "wallets", "apparel set", "headwear", "mufflers", "skin care", "makeup", "free gifts",
    "ties", "accessories", "skin", "beauty accessories", "water bottle", "eyelash", "bath and body", "gloves",
    "sports accessories", "cufflinks", "sports equipment", "stoles", "hair", "perfumes", "home furnishing",
    "umbrellas", "wristbands", "vouchers",
)  # fmt: skip


class Head(nn.Module):
    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(wide, out) for _ in range(3))


class Attention(nn.Module):
    """Attention over all tokens: over the padding of a prompt too, as it was trained."""

    def __init__(self, wide: int, heads: int) -> None:
        super().__init__()
        self.multi_head = nn.ModuleList(Head(wide, wide // heads) for _ in range(heads))
        self.W_o = nn.Linear(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        parts = [[head.query(x), head.key(x), head.value(x)] for head in self.multi_head]
        query, key, value = (torch.stack(part, 1) for part in zip(*parts, strict=True))  # (B,heads,tokens,wide/heads)
        return self.W_o(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + mlp(norm(attention(norm(x)))): there is no sum around the attention alone."""

    def __init__(self, wide: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.mha = Attention(wide, heads)
        self.mlp = nn.Sequential(nn.Linear(wide, 4 * wide), nn.GELU(), nn.Linear(4 * wide, wide))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.ln2(self.mha(self.ln1(x))))


class Positions(nn.Module):
    def __init__(self, count: int, wide: int) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, count, wide))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]]


class ImageTower(nn.Module):
    """(B,3,80,80) in [0, 1] -> (B,128) of unit norm: a vision transformer of 16 x 16 patches and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_proj = nn.Conv2d(3, 32, 5, 5)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 32))
        self.positional_embeddings = Positions(257, 32)
        self.transformer_encoder = nn.Sequential(*(Block(32, 4) for _ in range(8)))
        self.projection = nn.Parameter(torch.zeros(32, 128))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.linear_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1)
        return F.normalize(self.transformer_encoder(self.positional_embeddings(tokens))[:, 0] @ self.projection, dim=1)


class TextTower(nn.Module):
    """Bytes (P,32) -> (P,128) of unit norm: what stands at the last byte, the end of the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 64)
        self.positional_embeddings = Positions(128, 64)
        self.transformer_encoder = nn.Sequential(*(Block(64, 8) for _ in range(8)))
        self.projection = nn.Parameter(torch.zeros(64, 128))

    def forward(self, codes: Tensor) -> Tensor:
        x = self.transformer_encoder(self.positional_embeddings(self.embed(codes)))
        last = (codes != 0).sum(1) - 1
        return F.normalize(x[torch.arange(len(x)), last] @ self.projection, dim=1)


def tokens(prompts: list[str]) -> Tensor:
    """Bytes (P,32) of prompts in lower case, cut at 32 and padded with zeros."""
    codes = [(START + prompt.lower().encode() + END)[:LENGTH].ljust(LENGTH, b"\0") for prompt in prompts]
    return torch.tensor([list(code) for code in codes])


def towers() -> tuple[ImageTower, TextTower, float]:
    """Both towers, and the factor of their cosine in training."""
    stored, found = load_file(WEIGHTS), []
    for name, tower in (("vision_encoder.", ImageTower()), ("text_encoder.", TextTower())):
        tower.load_state_dict({k.removeprefix(name): value for k, value in stored.items() if k.startswith(name)})
        found.append(tower.eval().requires_grad_(False))
    return found[0], found[1], stored["temperature"].exp().item()


def facts(classes: tuple[str, ...] | int, layer: str) -> ModelSpec:
    told = {"source": "github.com/rohitkuk/MIRA", "licence": "Apache-2.0"}
    return ModelSpec(size=80, mean=0, std=1, classes=classes, feature_layer=layer, **told)


def build():
    images, texts, _ = towers()
    return images, facts(0, "transformer_encoder"), lambda prompts: texts(tokens(prompts))


def words():
    images, texts, factor = towers()
    head = nn.Linear(128, len(WORDS), bias=False)
    head.weight.data = factor * texts(tokens(list(WORDS)))
    return nn.Sequential(images, head), facts(WORDS, "0")
