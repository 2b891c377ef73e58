"""Sample in function space, then invert: draw what a model would measure of a real picture, then find that picture.

    s ~ N(m, T^2 D (F^T F + R) D),   s(x) = (channel means and log standard deviations of every layer, features, logits)

m, D: means and standard deviations over real pictures; F (k,S): the leading directions of their correlation; R: the
diagonal remainder of each variance; T: the temperature. All layers are drawn together, so what is asked of one agrees
with what is asked of the next. No label is used. A picture is then moved until the model measures of it what was
drawn (``objectives.spread_statistics`` with targets, and ``toward_features``). A classifier may also be asked to be as
decided as it is on real pictures: the class of the largest logit that was drawn is then wanted too. A Gaussian lies
between the classes more often than real pictures do.

In the spirit of working in the model's function space (DSF, "Your Discriminative Model is Secretly a Generative
Model"), but a point there is drawn first; the inversion is feature inversion (Mahendran & Vedaldi, arXiv 1412.0035).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.synthesis.config import RANK
from bothways.synthesis.objectives.terms import Activations, Term, per_picture, vectors
from bothways.synthesis.statistics import Spread, channel_statistics
from bothways.types import UserError, VisionModel

OUTPUTS = "outputs"  # the layer of the logits
PIXELS_AT_ONCE = 1_000_000
SMALLEST_MEAN_STD, SMALLEST_LOG_STD = 1e-3, 1e-2  # a channel that never fires would otherwise divide by zero


@dataclass(frozen=True)
class Part:
    """One stretch of s: mean (d,) and standard deviation (d,) over real pictures."""

    mean: Tensor
    std: Tensor

    def spread(self) -> Spread:
        """Channel means in the first half, their log standard deviations in the second."""
        mean, log_std = self.mean.chunk(2)
        mean_std, log_std_std = self.std.chunk(2)
        return Spread(mean, mean_std, log_std, log_std_std)


@dataclass(frozen=True)
class Space:
    """What a model measures of real pictures, as one Gaussian.

    parts: {name: Part}, their sizes adding up to S. factor: (k,S), in standard deviations.
    """

    parts: Mapping[str, Part]
    factor: Tensor

    def of_statistics(self, model: int = 0) -> dict[str, Part]:
        """{layer: part} of the channel statistics of the model of that number."""
        return _layers_of(self.parts, "statistics", model)

    def of_features(self, model: int = 0) -> dict[str, Part]:
        """{layer: part} of its features and logits."""
        return _layers_of(self.parts, "features", model)

    def sample(self, draws: Draws, temperature: float = 1.0, shrinkage: float = 0.0) -> dict[str, Tensor]:
        """{name: (B,d)}: one point for every picture.

        temperature: 0 is the mean. shrinkage: of the correlations, 0 to 1; at 1 every number is drawn alone.
        """
        factor = (1 - shrinkage) ** 0.5 * self.factor
        remainder = (1 - factor.square().sum(0)).clamp_min(0).sqrt()
        common = draws.normal((len(factor),), purpose="sample").to(factor)
        own = draws.normal((factor.shape[1],), purpose="sample remainder").to(factor)
        point = temperature * (common @ factor + own * remainder)
        stretches = point.split([len(part.mean) for part in self.parts.values()], dim=1)
        return {
            name: part.mean + part.std * stretch
            for (name, part), stretch in zip(self.parts.items(), stretches, strict=True)
        }


def _layers_of(parts: Mapping[str, Part], kind: str, model: int) -> dict[str, Part]:
    """{layer: part} of one kind, of the model of that number."""
    begins = f"{model}/{kind}/"
    return {name.removeprefix(begins): part for name, part in parts.items() if name.startswith(begins)}


def statistics_name(layer: str, model: int = 0) -> str:
    """The part of a Space that holds the channel statistics of a layer, of the model of that number."""
    return f"{model}/statistics/{layer}"


def features_name(layer: str, model: int = 0) -> str:
    """The part of a Space that holds the features, averaged over space."""
    return f"{model}/features/{layer}"


def measure_space(
    models: Sequence[VisionModel],
    images: Tensor,
    layers: Sequence[Sequence[str]],
    features: Sequence[Sequence[str]],
    *,
    rank: int = RANK,
) -> Space:
    """Fit a Space to what models measure of the same real pictures.

    images: (N,3,H,W) in [0,1], or bytes, which take a quarter of the memory; two or more. layers, features: of each
    model, those whose channel statistics and those whose average over space is taken; the logits are "outputs".
    Raises UserError for fewer than two pictures.
    """
    found: Rows = {}
    for _ in measure_rows(models, images, layers, features, found):
        pass
    return fit_space(found, rank)


Rows = dict[str, list[Tensor]]
"""{name of a part: (B,d) of each chunk of pictures}."""


def measure_rows(
    models: Sequence[VisionModel],
    images: Tensor,
    layers: Sequence[Sequence[str]],
    features: Sequence[Sequence[str]],
    found: Rows,
) -> Iterator[int]:
    """Measure a chunk of pictures after the other into ``found``; yields how many are done. See ``measure_space``."""
    if len(images) < 2:
        raise UserError(f"a model's statistics need two real images or more, not {len(images)}; type --data with more")
    done = 0
    for chunk in images.split(chunk_size(images)):
        pictures = chunk.float() / 255 if chunk.dtype == torch.uint8 else chunk
        with torch.no_grad():  # for a chunk at a time: between two of them the caller's own setting holds
            for index, (model, measured, averaged) in enumerate(zip(models, layers, features, strict=True)):
                seen = model.features(pictures, sorted({*measured, *averaged}))
                for layer in measured:
                    value = torch.cat(channel_statistics(seen[layer]), dim=1)
                    found.setdefault(statistics_name(layer, index), []).append(value)
                for layer in averaged:
                    found.setdefault(features_name(layer, index), []).append(vectors(seen[layer], layer))
        done += len(chunk)
        yield done


def chunk_size(images: Tensor) -> int:
    """How many pictures are measured at once."""
    return max(1, min(100, PIXELS_AT_ONCE // images[0, 0].numel()))


def fit_space(found: Rows, rank: int) -> Space:
    """The Space of what ``measure_rows`` found."""
    rows = {name: torch.cat(values) for name, values in found.items()}
    parts = {name: _part(name, value) for name, value in rows.items()}
    standard = torch.cat([(rows[name] - part.mean) / part.std for name, part in parts.items()], dim=1)
    return Space(parts, leading_directions(standard, rank))


def _part(name: str, rows: Tensor) -> Part:
    mean, std = rows.mean(0), rows.std(0)
    if "/statistics/" not in name:
        return Part(mean, std + SMALLEST_MEAN_STD)
    half = len(std) // 2
    return Part(mean, torch.cat([std[:half] + SMALLEST_MEAN_STD, std[half:] + SMALLEST_LOG_STD]))


def leading_directions(standard: Tensor, rank: int) -> Tensor:
    """(N,S) rows of mean 0 -> (k,S) with F^T F the best approximation of rank k to their covariance."""
    rows = standard.double() / math.sqrt(len(standard) - 1)
    small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values, vectors_ = torch.linalg.eigh(small)
    keep = torch.arange(len(values) - 1, max(-1, len(values) - 1 - rank), -1, device=small.device)
    keep = keep[values[keep] > 1e-9 * values[-1]]
    if len(rows) <= rows.shape[1]:
        directions = vectors_[:, keep].T @ rows  # each of length sqrt(value)
    else:
        directions = vectors_[:, keep].T * values[keep].sqrt()[:, None]
    return directions.to(standard)


def toward_features(model: VisionModel, layer: str, centre: Tensor, target: Tensor) -> Term:
    """cos(f(x) - centre, target - centre), f the features averaged over space.

    centre: (d,), the mean over real pictures. target: (B,d), what was drawn.
    """

    def measure(seen: Activations, pictures: int) -> Tensor:
        found = vectors(seen[layer], layer) - centre
        wanted = (target - centre).repeat_interleave(len(found) // pictures, dim=0)
        return per_picture(F.cosine_similarity(found, wanted, dim=1), pictures)

    return Term("features", measure, model, (layer,))


def head_space(rows: Tensor, layer: str) -> Space:
    """A Space of features alone from the rows (K,d) of a classifier's head: for want of real pictures.

    Each class's row, less their mean, points to where the features of that class lie; where the mean of real features
    lies is not known, and taken as 0.
    """
    centred = rows - rows.mean(0)
    std = centred.std(0) + SMALLEST_MEAN_STD
    part = Part(torch.zeros_like(std), std)
    return Space({features_name(layer): part}, leading_directions(centred / std, RANK))
