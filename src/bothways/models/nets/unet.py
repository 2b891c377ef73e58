"""Time-conditioned U-Net for velocities: residual blocks at several resolutions, self-attention at some.

The architecture is that of Ho et al. 2020 (arXiv 2006.11239) as modified by Nichol & Dhariwal 2021 (arXiv 2102.09672);
``SIZES`` reproduces the parameter counts of the papers exactly. Departures: ``patch`` folds squares of pixels into
channels (pixel unshuffle), for training on a CPU; below 128 channels there are fewer groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.types import UserError

SIZES: dict[str, dict[str, Any]] = {
    "unet-s": {"width": 128, "multiples": (1, 1, 2, 2), "blocks": 3, "attention": (4, 8)},
    "unet-m": {"width": 128, "multiples": (1, 2, 2, 2), "blocks": 3, "attention": (2, 4)},
    "unet-64": {"width": 128, "multiples": (1, 2, 3, 4), "blocks": 3, "attention": (4, 8)},
    "unet-torchcfm": {
        "width": 128, "multiples": (1, 2, 2, 2), "blocks": 2, "attention": (2,), "head_width": 64, "scale_shift": False,
        "dropout": 0.1,
    },
    "unet-small": {"width": 64, "multiples": (1, 2), "blocks": 2, "attention": (2,), "patch": 2},
    "unet-tiny": {"width": 32, "multiples": (1, 2), "blocks": 1, "attention": (2,)},
}  # fmt: skip
"""name -> options of :class:`UNet`: three of the papers (42.4, 52.5, 121 M), torchcfm's (35.75 M), and small ones"""


class UNet(nn.Module):
    """Velocity U-Net: x (B,C,H,W), time (B,) already scaled -> (B,C,H,W).

    channels: of a picture. width: base channels, times ``multiples`` at each level. blocks: residual blocks per level
    of the encoder, one more in the decoder. attention: downsampling factors of the levels with attention. heads: of
    attention, or ``head_width``: channels per head. scale_shift: time scales and shifts the normalised activations
    (FiLM), else it is added. patch: side of the pixel square that is folded into channels.
    Raises UserError unless H and W are multiples of patch 2^(levels - 1).
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 3,
        attention: Sequence[int] = (2, 4),
        heads: int = 4,
        head_width: int | None = None,
        scale_shift: bool = True,
        dropout: float = 0.0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.width, self.patch = width, patch
        self.factor = patch * 2 ** (len(multiples) - 1)  # the sides of a picture must be multiples of it
        inside, time = channels * patch * patch, 4 * width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))

        def stage(entering: int, leaving: int, factor: int, resample: nn.Module | None = None) -> Stage:
            attend = Attention(leaving, head_width or leaving // heads) if factor in attention else None
            return Stage(Residual(entering, leaving, time, scale_shift, dropout), attend, resample)

        present = width * multiples[0]
        self.stem = nn.Conv2d(inside, present, 3, padding=1)
        self.down, self.up, kept = nn.ModuleList(), nn.ModuleList(), [present]
        for level, multiple in enumerate(multiples):
            for _ in range(blocks):
                self.down.append(stage(present, width * multiple, 2**level))
                present = width * multiple
                kept.append(present)
            if level < len(multiples) - 1:
                self.down.append(Stage(None, None, nn.Conv2d(present, present, 3, stride=2, padding=1)))
                kept.append(present)
        first, second = (Residual(present, present, time, scale_shift, dropout) for _ in range(2))
        self.middle = nn.ModuleList(
            [Stage(first, Attention(present, head_width or present // heads), None), Stage(second, None, None)]
        )
        for level, multiple in reversed(list(enumerate(multiples))):
            for block in range(blocks + 1):
                last = level > 0 and block == blocks
                resample = Upsample(width * multiple) if last else None
                self.up.append(stage(present + kept.pop(), width * multiple, 2**level, resample))
                present = width * multiple
        self.head = nn.Sequential(normalization(present), nn.SiLU(), zeroed(nn.Conv2d(present, inside, 3, padding=1)))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise UserError(
                f"this U-Net cannot take pictures of {x.shape[-2]}x{x.shape[-1]} pixels; give sides that are "
                f"multiples of {self.factor}"
            )
        moment = self.time(sinusoid(time, self.width).to(x.dtype))
        h = self.stem(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        kept = [h]
        for stage in self.down:
            h = stage(h, moment)
            kept.append(h)
        for stage in self.middle:
            h = stage(h, moment)
        for stage in self.up:
            h = stage(torch.cat([h, kept.pop()], 1), moment)
        h = self.head(h)
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h


class Stage(nn.Module):
    """A residual block, attention and up- or downsampling; each is optional."""

    def __init__(self, residual: nn.Module | None, attend: nn.Module | None, resample: nn.Module | None) -> None:
        super().__init__()
        self.residual, self.attend, self.resample = residual, attend, resample

    def forward(self, h: Tensor, moment: Tensor) -> Tensor:
        h = h if self.residual is None else self.residual(h, moment)
        h = h if self.attend is None else self.attend(h)
        return h if self.resample is None else self.resample(h)


class Residual(nn.Module):
    """Residual block h + conv(act(norm(conv(act(norm h))))), conditioned on time at the second normalisation."""

    def __init__(self, entering: int, leaving: int, time: int, scale_shift: bool, dropout: float) -> None:
        super().__init__()
        self.scale_shift, self.dropout = scale_shift, dropout
        self.norm1, self.conv1 = normalization(entering), nn.Conv2d(entering, leaving, 3, padding=1)
        self.time = nn.Linear(time, 2 * leaving if scale_shift else leaving)
        self.norm2, self.conv2 = normalization(leaving), zeroed(nn.Conv2d(leaving, leaving, 3, padding=1))
        self.skip = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        moment = self.time(F.silu(moment))[:, :, None, None]
        if self.scale_shift:
            scale, shift = moment.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + moment)
        return self.skip(x) + self.conv2(F.dropout(F.silu(h), self.dropout, self.training))


class Attention(nn.Module):
    """Self-attention over positions; query, key and value of a head are adjacent in the projection's channels."""

    def __init__(self, channels: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.norm = normalization(channels)
        self.project, self.out = nn.Linear(channels, 3 * channels), zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        split = self.project(tokens).view(batch, height * width, -1, 3, self.head_width)
        query, key, value = split.permute(3, 0, 2, 1, 4)
        if x.is_cuda:
            seen = F.scaled_dot_product_attention(query, key, value)
        else:  # the fused kernel on a CPU has no double backward, and is slow
            seen = torch.softmax(query @ key.transpose(-1, -2) * self.head_width**-0.5, -1) @ value
        seen = seen.transpose(1, 2).reshape(batch, -1, channels)
        return x + self.out(seen).transpose(1, 2).reshape(x.shape)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Normalization(nn.GroupNorm):
    """Group normalisation in contiguous layout on a CPU, where the channels-last kernel takes three times as long."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or x.is_contiguous():
            return super().forward(x)
        found = super().forward(x.contiguous())
        # equals to(memory_format=torch.channels_last), in operations that torch.func.vmap supports
        return found.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def normalization(channels: int) -> nn.GroupNorm:
    return Normalization(32 if channels % 32 == 0 and channels >= 128 else math.gcd(channels, 32), channels)


def zeroed(layer: Any) -> Any:
    """Initialise a layer's parameters to zero, so that its residual branch starts at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def sinusoid(time: Tensor, width: int, longest: float = 10000.0) -> Tensor:
    """Sinusoidal time embedding (B,) -> (B, width): cosines, then sines, of frequencies from 1 down to 1 / longest."""
    half = width // 2
    time = time.to(torch.promote_types(time.dtype, torch.float32))  # half precision does not resolve 999 and 1000
    frequencies = torch.exp(-math.log(longest) / half * torch.arange(half, device=time.device, dtype=time.dtype))
    angles = time[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)
