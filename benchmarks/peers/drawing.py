"""Rivals that draw from a classifier, called through their own interfaces at their own defaults.

    python benchmarks/peers/environments.py --groups lucent horama        makes the environments that start them

Each function: (network of normalised pictures, its facts, class, number of model calls, seed) -> (1,3,H,W) in [0,1].
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # imported as peers.drawing too
from operators import declare_torchvision

CROPS = 6  # copies a step of Horama, its default


class Normalised(nn.Module):
    """The network with its normalisation in front, for pictures in [0,1]."""

    def __init__(self, model) -> None:
        super().__init__()
        self.module = model.module
        kind = {"dtype": torch.float32}
        self.register_buffer("mean", torch.tensor(model.spec.mean, **kind).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(model.spec.std, **kind).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.module((images - self.mean) / self.std)


def lucent(model, label: int, calls: int, seed: int) -> Tensor:
    """lucent's ``render_vis`` of the class's logit: Fourier, decorrelated colours, its own transforms, Adam .05."""
    return _lucent(model, [label], calls, seed)


def lucent_of(model, targets: Sequence[tuple[int, int]], calls: int) -> Tensor:
    """``lucent`` of each (class, seed), (N,3,H,W): the pictures of a seed at once, which have the same draws alone."""
    found = {}
    for seed in dict.fromkeys(seed for _, seed in targets):
        labels = [label for label, own in targets if own == seed]
        images = _lucent(model, labels, calls, seed)
        found |= {(label, seed): image for label, image in zip(labels, images, strict=True)}
    return torch.stack([found[target] for target in targets])


def _lucent(model, labels: Sequence[int], calls: int, seed: int) -> Tensor:
    declare_torchvision()
    from lucent.optvis import objectives, param, render

    side = model.spec.height
    network = Normalised(model).eval().to(model.device)  # lucent itself draws on the GPU wherever there is one

    def start():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        (one,), _ = param.image(side)  # the start of one picture, for each
        parameters, image = param.image(side, batch=len(labels))
        parameters[0].data.copy_(one.data.expand_as(parameters[0]))
        return parameters, image

    wanted = [objectives.channel("module_head", label, batch=k) for k, label in enumerate(labels)]
    found = render.render_vis(
        network, objectives.Objective.sum(wanted), start, thresholds=(calls,),
        preprocess=False, progress=False, show_image=False, fixed_image_size=side,
    )  # fmt: skip
    return torch.from_numpy(found[-1]).permute(0, 3, 1, 2)


def bilinear_crops(image: Tensor, boxes: Tensor, output_size: tuple[int, int]) -> Tensor:
    """``torchvision.ops.roi_align`` for boxes no larger than the output: one bilinear sample at each bin's centre.

    image: (1,3,H,W). boxes: (B,5), the index and x1, y1, x2, y2 in pixels. Samples outside take the edge.
    """
    high, wide = image.shape[-2:]
    grids = []
    for _, left, top, right, bottom in boxes:
        x = left + (right - left) * (torch.arange(output_size[1], device=image.device) + 0.5) / output_size[1]
        y = top + (bottom - top) * (torch.arange(output_size[0], device=image.device) + 0.5) / output_size[0]
        x, y = (2 * x + 1) / wide - 1, (2 * y + 1) / high - 1
        grids.append(torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1))
    copies = image.expand(len(boxes), -1, -1, -1)
    return F.grid_sample(copies, torch.stack(grids), "bilinear", "border", align_corners=False)


def _horama(draw, model, label: int, calls: int, seed: int, **settings) -> Tensor:
    torch.manual_seed(seed)
    network = Normalised(model).eval().to(model.device)
    steps, side = max(1, calls // CROPS), model.spec.height
    image, _ = draw(
        lambda seen: network((seen - seen.min()) / (seen.max() - seen.min())).mean(0)[label],
        total_steps=steps, model_input_size=side, device=model.device, **settings,
    )  # fmt: skip
    image = image.detach()[None]
    image = (image - image.min()) / (image.max() - image.min())
    high, wide = image.shape[-2:]
    middle = image[..., high // 4 : high - high // 4, wide // 4 : wide - wide // 4]  # where its crops fall
    return F.interpolate(middle, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def horama_fourier(model, label: int, calls: int, seed: int) -> Tensor:
    """Horama's Fourier drawing of the class's logit, six crops a step; the middle half of its canvas."""
    declare_torchvision()
    from horama import common, fourier

    common.roi_align = bilinear_crops  # torchvision's own has no kernel beside a torch of another build
    return _horama(fourier, model, label, calls, seed)


def horama_maco(model, label: int, calls: int, seed: int) -> Tensor:
    """Horama's MaCo drawing of the class's logit, as ``horama_fourier``; its spectrum is replaced.

    It downloads the mean magnitudes of ImageNet, which this benchmark does without: the spectrum is the package's
    "bundled:photographs", in the colours of Horama. Their axes are nearly ours, of other lengths.
    """
    declare_torchvision()
    from horama import common, maco, maco_fv

    from bothways.tasks.spectrum.files import read_spectrum

    lengths = common.get_color_correlation_svd_sqrt("cpu").norm(dim=1)

    def start(shape: tuple[int, int], std_deviation: float = 1.0) -> tuple[Tensor, Tensor]:
        magnitude = (read_spectrum("bundled:photographs").at(*shape) / lengths[:, None, None]).float()
        return magnitude, std_deviation * torch.randn(magnitude.shape)

    common.roi_align, maco_fv.init_maco_buffer = bilinear_crops, start
    return _horama(maco, model, label, calls, seed)


PEERS = {"lucent": lucent, "horama-fourier": horama_fourier, "horama-maco": horama_maco}
