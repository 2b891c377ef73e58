"""Channel statistics of activations, their distribution over real images, and terms that match them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bothways.progress import counted
from bothways.synthesis.objectives.terms import Activations, Term, per_picture
from bothways.types import UserError, VisionModel

STATISTICS = "statistics of pictures"  # the stage of their measurement


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over real images of one layer's per-image channel statistics, each (C,)."""

    mean: Tensor
    mean_std: Tensor
    log_std: Tensor
    log_std_std: Tensor


def over_positions(value: Tensor) -> Tensor:
    """The values of each channel, (B,C,positions), of (B,C,H,W), (B,N,C) or (B,C)."""
    return value.transpose(1, 2) if value.ndim == 3 else value.reshape(*value.shape[:2], -1)


class _MeanVariance(torch.autograd.Function):
    """Mean and variance over the last axis of x, of n values, with a gradient of one pass over x.

        dx = (dm - 2 dv m) / n + (2 dv / n) x

    A third of the time of ``mean`` and ``var``, and nothing is kept beside x. Differentiable twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(-1)
        variance = torch.linalg.vector_norm(x - mean[..., None], dim=-1).square() / x.shape[-1]
        ctx.save_for_backward(x, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x, mean), (of_mean, of_variance) = ctx.saved_tensors, slopes
        scale = 2 / x.shape[-1] * of_variance
        return torch.addcmul((of_mean / x.shape[-1] - scale * mean)[..., None], x, scale[..., None])


def channel_statistics(value: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of each channel over positions, (B,C) each, of (B,C,H,W), (B,N,C) or (B,C)."""
    mean, variance = _MeanVariance.apply(over_positions(value))
    return mean, 0.5 * (variance + 1e-5).log()


def measure_spread(model: VisionModel, images: Tensor, layers: Sequence[str], batch: int = 100) -> dict[str, Spread]:
    """Measure the Spread of each layer over real images (N,3,H,W), for ``spread_statistics``.

    Raises UserError for fewer than two images.
    """
    if len(images) < 2:
        raise UserError(f"channel statistics need two real images or more, not {len(images)}; type --data with more")
    found: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for part in counted(images.split(batch), STATISTICS):
            for layer, value in model.features(part, layers).items():
                found[layer].append(channel_statistics(value))
    result = {}
    for layer, pairs in found.items():
        mean, log_std = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
        # the floors avoid a division by zero for dead channels
        result[layer] = Spread(mean.mean(0), mean.std(0) + 1e-3, log_std.mean(0), log_std.std(0) + 1e-2)
    return result


def spread_statistics(
    model: VisionModel, spread: Mapping[str, Spread], targets: Mapping[str, Tensor] | None = None
) -> Term:
    """Prior of channel statistics: their log-density under a diagonal Gaussian over real images, per layer.

        -1/L sum_layers mean_channels [ ((m - E m) / sd m)^2 + ((log s - E log s) / sd log s)^2 ] / 2

    m, s: mean and standard deviation of one channel over the pixels of one picture; pictures are independent.
    targets: {layer: (B,2C)}, targets of each picture, instead of the means E m, E log s.
    """

    def measure(seen: Activations, pictures: int) -> Tensor:
        total = []
        for layer, facts in spread.items():
            measured = torch.cat(channel_statistics(seen[layer]), dim=1)
            target = torch.cat([facts.mean, facts.log_std])[None] if targets is None else targets[layer]
            target = target.repeat_interleave(len(measured) // len(target), dim=0)
            scale = torch.cat([facts.mean_std, facts.log_std_std])
            total.append(((measured - target) / scale).square().mean(1))
        return -per_picture(torch.stack(total).mean(0), pictures)

    return Term("statistics", measure, model, tuple(spread))


def batch_statistics(model: VisionModel, targets: Mapping[str, tuple[Tensor, Tensor]], group: int) -> Term:
    """BatchNorm regulariser of DeepInversion: a group's statistics against stored ones (arXiv 1912.08795, eq. 4).

        -sum_layers ( ||mean - mean_stored||_2 + ||var - var_stored||_2 ) / group

    Mean and variance run over a group, its copies and its pixels, so the pictures of a group are coupled; a batch
    holds whole groups; only the last may be shorter. targets: {"NAME:input": (mean (C,), variance (C,))}.
    """

    def one_group(maps: list[Tensor]) -> Tensor:
        total = maps[0].new_zeros(())
        for value, (mean, variance) in zip(maps, targets.values(), strict=True):
            over = [0, *range(2, value.ndim)]  # all but channels
            total = total - (value.mean(over) - mean).norm() - (value.var(over, unbiased=False) - variance).norm()
        return total

    def measure(seen: Activations, pictures: int) -> Tensor:
        maps = [seen[layer] for layer in targets]
        rows = group * (len(maps[0]) // pictures)  # of one group
        parts = [one_group([m[start : start + rows] for m in maps]) for start in range(0, len(maps[0]), rows)]
        return torch.cat([part.expand(min(group, pictures - i * group)) / group for i, part in enumerate(parts)])

    return Term("batch statistics", measure, model, tuple(targets))
