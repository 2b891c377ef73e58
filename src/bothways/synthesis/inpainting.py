"""Inpainting by predicted channel statistics and Sobolev gradients.

    s(x) ~ N(s(f) + c + W (s(f) - m)/d, e^2),   f = the picture with its hole filled smoothly

s: channel means and log standard deviations of every layer. c, m, d, W, e are fitted on real pictures with holes filled
in the same way (no label), W by ridge regression on the leading directions of s(f). The pixels in the hole are then
optimised to match the prediction. The mean statistics over real pictures (``statistics.spread_statistics`` without
targets) lead away from the photo; those predicted from the photo itself hardly do.

The step is the steepest ascent in the smoothness metric of ``numerics.fill`` instead of the Euclidean one:

    dx = Q_hh^-1 grad_h,   Q = L L + tau L

so that it is smooth and vanishes towards the known pixels. It is also the first step of the ascent of
objective(x) - (x - f)^T Q (x - f) / 2: a prior that keeps the picture near its fill.

Source: ours, related to ``synthesis.sampling``, whose Gaussian is conditioned here. The step is a Sobolev gradient
(Neuberger, "Sobolev Gradients and Differential Equations", Springer 1997).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bothways.numerics.fill import Smoothness
from bothways.progress import counted
from bothways.synthesis.fields import Field
from bothways.synthesis.objectives.terms import IMAGE, Activations, Term
from bothways.synthesis.sampling import SMALLEST_LOG_STD, SMALLEST_MEAN_STD, chunk_size, leading_directions
from bothways.synthesis.statistics import STATISTICS, Spread, channel_statistics, spread_statistics
from bothways.types import UserError, VisionModel

RANK = 256  # leading directions of the statistics of filled pictures
RIDGE = 2.5  # ridge penalty: a direction of this variance, in squared standard deviations, is shrunk by half
FLATTEST = 1e-4  # squared difference of neighbours below which a photo counts as flat


@dataclass(frozen=True)
class Prediction:
    """Linear prediction of a model's channel statistics of whole pictures from those of filled ones.

    layers: {name: channels C}, S = 2 sum C. centre, scale, change, error: (S,) each, m, d, c and e. read (S,k), write
    (k,S): W = read write, projection on the leading directions and their regression coefficients.
    """

    layers: dict[str, int]
    centre: Tensor
    scale: Tensor
    change: Tensor
    read: Tensor
    write: Tensor
    error: Tensor

    def targets(self, model: VisionModel, filled: Tensor) -> dict[str, Tensor]:
        """Predicted statistics {layer: (B,2C)}, s(f) + c + W (s(f) - m)/d, for filled pictures (B,3,H,W)."""
        with torch.no_grad():
            own = _measured(model, filled, list(self.layers))
        predicted = own + self.change + ((own - self.centre) / self.scale) @ self.read @ self.write
        return dict(zip(self.layers, predicted.split(self._widths(), dim=1), strict=True))

    def term(self, model: VisionModel, filled: Tensor) -> Term:
        """Term -1/L sum_layers mean_channels ((s - predicted) / e)^2 of each picture, from its fill (B,3,H,W)."""
        errors = zip(self.layers, self.error.split(self._widths()), strict=True)
        spread = {}
        for layer, error in errors:
            mean, log_std = error.chunk(2)
            spread[layer] = Spread(torch.zeros_like(mean), mean, torch.zeros_like(log_std), log_std)
        return spread_statistics(model, spread, self.targets(model, filled))

    def _widths(self) -> list[int]:
        return [2 * channels for channels in self.layers.values()]


def predict_statistics(
    model: VisionModel, images: Tensor, filled: Tensor, layers: Sequence[str], *, rank: int = RANK, ridge: float = RIDGE
) -> Prediction:
    """Fit a Prediction to real pictures and the same pictures with a filled hole, by ridge regression.

        W = V diag(1/(v_k + ridge)) V^T E[z (s(x) - s(f))^T],   z = (s(f) - m)/d,   E[z z^T] ~ V diag(v) V^T

    images, filled: (N,3,H,W) in [0,1], N >= 2; with holes like those to be filled. layers: as
    ``Adapter.statistics_layers``. rank: directions kept of z. ridge: added to the variance along each.
    Raises UserError for fewer than two pictures, or fills of another shape.
    """
    if len(images) < 2 or images.shape != filled.shape:
        raise UserError(
            f"channel statistics are predicted from two pictures or more and their fills, not {tuple(images.shape)} "
            f"and {tuple(filled.shape)}; type --data with more"
        )
    with torch.no_grad():
        maps = model.features(images[:1], layers)
        sizes = {layer: channel_statistics(maps[layer])[0].shape[1] for layer in layers}
        whole, seen = _measured(model, images, layers), _measured(model, filled, layers)
    centre, scale = seen.mean(0), seen.std(0) + SMALLEST_MEAN_STD
    change = (whole - seen).mean(0)
    z, rest = ((seen - centre) / scale).double(), (whole - seen - change).double()
    directions = leading_directions(z, rank)  # (k,S), the square of each length its variance
    variance = directions.square().sum(1)
    read = (directions / variance.sqrt()[:, None]).T
    write = (z @ read).T @ rest / (len(z) - 1) / (variance + ridge)[:, None]
    error = (rest - z @ read @ write).std(0).to(seen) + _floor(sizes).to(seen)
    return Prediction(sizes, centre, scale, change, read.to(seen), write.to(seen), error)


def boundary_consistency(photo: Tensor, mask: Tensor) -> Term:
    """Negative squared jump across the mask's edge, relative to the photo's differences just outside it.

        -  mean_(i,j) (x_i - x_j)^2  /  ( mean_(j,k) (x_j - x_k)^2 + 10^-4 )

    i in the hole, j its neighbour outside, k the known pixel behind j on the same line; means over channels too. 0 is
    no jump, -1 as much as the photo has there. photo: (B,3,H,W) in [0,1]. mask: (B or 1,1,H,W), 1 in the hole, else 0.
    """
    hole = mask.bool().expand(len(photo), 1, *photo.shape[2:])

    def measure(seen: Activations, pictures: int) -> Tensor:
        jumps = jump_pairs = own = own_pairs = torch.zeros((), dtype=photo.dtype, device=photo.device)
        # rotate so that each of the four directions in turn points up, out of the hole
        for turns in range(4):
            drawn, known, inside = (torch.rot90(v, turns, (2, 3)) for v in (seen[IMAGE], photo, hole))
            across = inside[:, :, 1:] & ~inside[:, :, :-1]
            behind = across[:, :, 1:] & ~inside[:, :, :-2]
            jumps = jumps + ((drawn[:, :, 1:] - known[:, :, :-1]).square() * across).sum((1, 2, 3))
            own = own + ((known[:, :, 1:-1] - known[:, :, :-2]).square() * behind).sum((1, 2, 3))
            jump_pairs, own_pairs = jump_pairs + across.sum((1, 2, 3)), own_pairs + behind.sum((1, 2, 3))
        channels = photo.shape[1]
        usual = own / (channels * own_pairs).clamp_min(1)
        return -(jumps / (channels * jump_pairs).clamp_min(1)) / (usual + FLATTEST)

    return Term("boundary", measure)


@dataclass
class Smoothed(Field):
    """Sobolev gradient Q_hh^-1 field(x, t) in the hole, 0 outside: steepest ascent in the ``Smoothness`` metric."""

    part: Field
    smoothness: Smoothness
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        dx = self.smoothness.smoothed(self.part(x, t))
        self.stats = self.part.stats
        return dx


def _measured(model: VisionModel, images: Tensor, layers: Sequence[str]) -> Tensor:
    """Statistics s of pictures, (N,S): for each layer in order, channel means, then log standard deviations."""
    rows = []
    for part in counted(images.split(chunk_size(images)), STATISTICS):
        seen = model.features(part, layers)
        rows.append(torch.cat([torch.cat(channel_statistics(seen[layer]), dim=1) for layer in layers], dim=1))
    return torch.cat(rows)


def _floor(sizes: dict[str, int]) -> Tensor:
    """Lower bound of each error, which avoids a division by zero for dead channels."""
    parts = [(torch.full((c,), SMALLEST_MEAN_STD), torch.full((c,), SMALLEST_LOG_STD)) for c in sizes.values()]
    return torch.cat([half for pair in parts for half in pair])
