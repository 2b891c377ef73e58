"""Sampling in function space: draw feature and channel statistics from a Gaussian fit to real images, then invert.

    s ~ N(m, T^2 D (F^T F + R) D),   s(x) = (channel means and log standard deviations of every layer, features, logits)

m, D: means and standard deviations over real pictures; F (k,S): the leading directions of their correlation; R: the
diagonal remainder of each variance; T: the temperature. All layers are drawn jointly, so that their targets are
consistent. No label is used. With rows of single pictures the features come from a kernel density instead
(``density.py``), and what has no rows from the Gaussian, given the features. The picture is then optimised until its
statistics match the sample (``statistics.spread_statistics`` with targets, and ``toward_features``). For a classifier
the class of the largest sampled logit can be a further target, since samples of a Gaussian lie between classes more
often than real pictures do.

It works in the model's function space as DSF does ("Your Discriminative Model is Secretly a Generative Model"), but
samples a point there first; the inversion is feature inversion (Mahendran & Vedaldi, arXiv 1412.0035).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.progress import counted, stage
from bothways.synthesis.config import RANK
from bothways.synthesis.density import Density, given_parts, sample_rows
from bothways.synthesis.objectives.terms import Activations, Term, per_picture, vectors
from bothways.synthesis.statistics import STATISTICS, Spread, channel_statistics
from bothways.types import UserError, VisionModel

OUTPUTS = "outputs"  # the layer of the logits
PIXELS_AT_ONCE = 1_000_000
SMALLEST_MEAN_STD, SMALLEST_LOG_STD = 1e-3, 1e-2  # added to standard deviations: a dead channel has 0


@dataclass(frozen=True)
class Part:
    """One block of s, such as a layer's statistics: mean (d,) and standard deviation (d,) over real pictures."""

    mean: Tensor
    std: Tensor

    def spread(self) -> Spread:
        """The block as channel statistics: channel means first, then their log standard deviations."""
        mean, log_std = self.mean.chunk(2)
        mean_std, log_std_std = self.std.chunk(2)
        return Spread(mean, mean_std, log_std, log_std_std)


@dataclass(frozen=True)
class Space:
    """Gaussian over the statistics and features of one or several models on real pictures.

    parts: {name: Part}, their sizes adding up to S. factor: (k,S), in standard deviations.
    rows: {name of a part: (N,d)} of the same N pictures, for a density over them. names: (N,) of these pictures; ()
    where the rows are of no picture. pixels: (N,3,h,w) uint8, small copies of them, where they are at hand. heads:
    {name of a part: (K,d)}, the rows of the linear heads that these features enter.
    """

    parts: Mapping[str, Part]
    factor: Tensor
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    pixels: Tensor | None = None
    heads: Mapping[str, Tensor] = field(default_factory=dict)

    def of_statistics(self, model: int = 0) -> dict[str, Part]:
        """{layer: part} of the channel statistics of the model with that index."""
        return _layers_of(self.parts, "statistics", model)

    def of_features(self, model: int = 0) -> dict[str, Part]:
        """{layer: part} of the features and logits of the model with that index."""
        return _layers_of(self.parts, "features", model)

    def only(self, layers: Collection[str]) -> Space:
        """The same without the features of other layers; the logits and all channel statistics stay."""
        kept = {name: "/features/" not in name or name.split("/")[2] in {*layers, OUTPUTS} for name in self.parts}
        sizes = [len(part.mean) for part in self.parts.values()]
        columns = torch.cat([torch.full((size,), own) for size, own in zip(sizes, kept.values(), strict=True)])
        parts = {name: part for name, part in self.parts.items() if kept[name]}
        rows = {name: value for name, value in self.rows.items() if kept[name]}
        return replace(self, parts=parts, factor=self.factor[:, columns.to(self.factor.device)], rows=rows)

    def to(self, device: Any) -> Space:
        """The same on a device."""
        parts = {name: Part(part.mean.to(device), part.std.to(device)) for name, part in self.parts.items()}
        rows, heads = ({name: value.to(device) for name, value in held.items()} for held in (self.rows, self.heads))
        pixels = None if self.pixels is None else self.pixels.to(device)
        return replace(self, parts=parts, factor=self.factor.to(device), rows=rows, pixels=pixels, heads=heads)

    def sample(
        self, draws: Draws, temperature: float = 1.0, shrinkage: float = 0.0, density: Density | None = None
    ) -> dict[str, Tensor]:
        """One sample per picture, {name of the part: (B,d)}.

        temperature: 0 gives the mean. shrinkage: of the correlations, 0 to 1; at 1 all numbers are independent.
        density: of the parts that have rows; the others are drawn from the Gaussian given these, at the temperature.
        """
        factor = (1 - shrinkage) ** 0.5 * self.factor
        if density is not None:
            return self._by_density(sample_rows(self.rows, draws, density), factor, draws, temperature)
        remainder = (1 - factor.square().sum(0)).clamp_min(0).sqrt()
        common = draws.normal((len(factor),), purpose="sample").to(factor)
        own = draws.normal((factor.shape[1],), purpose="sample remainder").to(factor)
        point = temperature * (common @ factor + own * remainder)
        return self._in_parts(point)

    def _by_density(
        self, found: Mapping[str, Tensor], factor: Tensor, draws: Draws, temperature: float
    ) -> dict[str, Tensor]:
        """The sampled rows, and the other parts given them."""
        sizes = {name: len(part.mean) for name, part in self.parts.items()}
        if found.keys() == sizes.keys():
            return dict(found)
        seen = torch.cat([torch.full((size,), name in found) for name, size in sizes.items()]).to(factor.device)
        value = torch.cat([(found[name] - p.mean) / p.std for name, p in self.parts.items() if name in found], dim=1)
        return {**self._in_parts(given_parts(factor, seen, value, draws, temperature)), **found}

    def _in_parts(self, point: Tensor) -> dict[str, Tensor]:
        """{name: (B,d)} of a point (B,S) in standard deviations."""
        blocks = point.split([len(part.mean) for part in self.parts.values()], dim=1)
        return {
            name: part.mean + part.std * block for (name, part), block in zip(self.parts.items(), blocks, strict=True)
        }


def _layers_of(parts: Mapping[str, Part], kind: str, model: int) -> dict[str, Part]:
    """{layer: part} of one kind, of the model with that index."""
    begins = f"{model}/{kind}/"
    return {name.removeprefix(begins): part for name, part in parts.items() if name.startswith(begins)}


def statistics_name(layer: str, model: int = 0) -> str:
    """Name of the part of a Space with the channel statistics of a layer of the model with that index."""
    return f"{model}/statistics/{layer}"


def features_name(layer: str, model: int = 0) -> str:
    """Name of the part of a Space with the features of a layer, averaged over space."""
    return f"{model}/features/{layer}"


def measure_space(
    models: Sequence[VisionModel],
    images: Tensor,
    layers: Sequence[Sequence[str]],
    features: Sequence[Sequence[str]],
    *,
    rank: int = RANK,
    keep: int = 0,
    names: Sequence[str] = (),
) -> Space:
    """Fit a Space to the statistics and features of models on the same real pictures.

    images: (N,3,H,W) in [0,1], or uint8, which take a quarter of the memory; two or more. layers, features: for each
    model, the layers of channel statistics and those of features averaged over space; the logits are "outputs".
    keep, names: as ``fit_space``. Raises UserError for fewer than two pictures.
    """
    rows: Rows = {}
    chunks = -(-len(images) // chunk_size(images))
    for _ in counted(measure_rows(models, images, layers, features, rows), STATISTICS, chunks):
        pass
    return fit_space(rows, rank, keep, names)


Rows = dict[str, list[Tensor]]
"""{name of a part: [(B,d) of each chunk of pictures]}."""


def measure_rows(
    models: Sequence[VisionModel],
    images: Tensor,
    layers: Sequence[Sequence[str]],
    features: Sequence[Sequence[str]],
    rows: Rows,
) -> Iterator[int]:
    """Measure pictures chunk by chunk into ``rows``; yields the number done. Arguments as ``measure_space``."""
    if len(images) < 2:
        raise UserError(f"a model's statistics need two real images or more, not {len(images)}; type --data with more")
    done = 0
    for chunk in images.split(chunk_size(images)):
        pictures = chunk.float() / 255 if chunk.dtype == torch.uint8 else chunk
        with torch.no_grad():  # around one chunk only: a generator must not change grad mode across a yield
            for index, (model, measured, averaged) in enumerate(zip(models, layers, features, strict=True)):
                seen = model.features(pictures, sorted({*measured, *averaged}))
                for layer in measured:
                    value = torch.cat(channel_statistics(seen[layer]), dim=1)
                    rows.setdefault(statistics_name(layer, index), []).append(value)
                for layer in averaged:
                    rows.setdefault(features_name(layer, index), []).append(vectors(seen[layer], layer))
        done += len(chunk)
        yield done


def chunk_size(images: Tensor) -> int:
    """Pictures per forward pass of a measurement."""
    return max(1, min(100, PIXELS_AT_ONCE // images[0, 0].numel()))


@stage("fitting the space of statistics")
def fit_space(rows: Rows, rank: int, keep: int = 0, names: Sequence[str] = ()) -> Space:
    """Fit a Space to the rows of ``measure_rows``.

    keep: pictures whose features it holds, evenly spaced. names: of all pictures; their numbers if there are none.
    """
    values = {name: torch.cat(chunks) for name, chunks in rows.items()}
    parts = {name: _part(name, value) for name, value in values.items()}
    standard = torch.cat([(values[name] - part.mean) / part.std for name, part in parts.items()], dim=1)
    places = torch.linspace(0, len(standard) - 1, min(keep, len(standard))).round().long()
    kept = {name: values[name][places] for name in row_parts(values)} if keep else {}
    called = tuple(names[place] if names else str(place) for place in places.tolist())
    return Space(parts, leading_directions(standard, rank), kept, called)


def row_parts(parts: Iterable[str]) -> list[str]:
    """Names of the parts of which a Space holds rows: of the features, and of the logits where there are no others."""
    features = [name for name in parts if "/features/" in name]
    return [name for name in features if not name.endswith(f"/{OUTPUTS}")] or features


def _part(name: str, rows: Tensor) -> Part:
    mean, std = rows.mean(0), rows.std(0)
    if "/statistics/" not in name:
        return Part(mean, std + SMALLEST_MEAN_STD)
    half = len(std) // 2
    return Part(mean, torch.cat([std[:half] + SMALLEST_MEAN_STD, std[half:] + SMALLEST_LOG_STD]))


def leading_directions(standard: Tensor, rank: int) -> Tensor:
    """Principal directions F (k,S) of centred rows (N,S): F^T F approximates their covariance best at rank k.

    The sign of a direction is that of LAPACK, for rows on any device: one seed draws one sample.
    """
    rows = standard.double() / math.sqrt(len(standard) - 1)
    small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    # an eigenvector has either sign, and the solvers of a GPU choose another
    values, vectors_ = (part.to(rows.device) for part in torch.linalg.eigh(small.cpu()))
    keep = torch.arange(len(values) - 1, max(-1, len(values) - 1 - rank), -1, device=small.device)
    keep = keep[values[keep] > 1e-9 * values[-1]]
    if len(rows) <= rows.shape[1]:
        directions = vectors_[:, keep].T @ rows  # each of length sqrt(value)
    else:
        directions = vectors_[:, keep].T * values[keep].sqrt()[:, None]
    return directions.to(standard)


def toward_features(model: VisionModel, layer: str, centre: Tensor, target: Tensor, name: str = "features") -> Term:
    """Term that matches sampled features: cos(f(x) - centre, target - centre), f averaged over space.

    centre: (d,), the mean over real pictures. target: (B,d), the sample.
    """

    def measure(seen: Activations, pictures: int) -> Tensor:
        features = vectors(seen[layer], layer) - centre
        targets = (target - centre).repeat_interleave(len(features) // pictures, dim=0)
        return per_picture(F.cosine_similarity(features, targets, dim=1), pictures)

    return Term(name, measure, model, (layer,))


def head_space(rows: Tensor, layer: str) -> Space:
    """A Space of features from the weight rows (K,d) of a classifier's head, without real pictures.

    The centred row of a class approximates the direction of its features; the mean of real features is unknown and
    taken as 0. The centred rows are those of the Space.
    """
    centred = rows - rows.mean(0)
    std = centred.std(0) + SMALLEST_MEAN_STD
    part = Part(torch.zeros_like(std), std)
    name = features_name(layer)
    return Space({name: part}, leading_directions(centred / std, RANK), {name: centred})
