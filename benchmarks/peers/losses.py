"""Losses of other papers, written by their formulas as objectives of ours: facts of the method, none of their code.

DeepInversion (Yin et al., arXiv 1912.08795, eq. 2-4), on a batch of B pictures x in the units of ImageNet's mean and
deviation:

    CE + .01 sum_l ( ||mean_l - mean*_l|| + ||var_l - var*_l|| ) + 1e-4 TV + 1e-5 mean ||x||

l: the inputs of BatchNorm, * its running statistics, the first layer ten times; TV: the norms over the batch of the
differences down, right and along both diagonals. The coefficients, the jitter of 30 pixels, the reflection and the
rate .25 are those of the command that the authors publish for ImageNet; the ten times and l2 are defaults of their
program. Other than theirs: batches of eight pictures of eight classes in place of 84 to 152, one resolution, as many
steps as model calls in place of thousands, and no warm-up of the rate, since they are so few.

VITAL (Gorgun, Schiele & Fischer, ICCV 2025, arXiv 2503.22399), of a class:

    sum over five layers of mean over channels and positions of (a_(q) - t_(q))^2

a_(q): the values of a channel over the picture, in order; t: their mean over real pictures of the class; no term of the
class itself. Free pixels, the jitter and the rate 1 of Adam are those of the program that the authors publish, and so
are the layers: the first convolution and the ends of the four stages. Theirs are 50 pictures of the class and 2,000
steps. The samples here hold one photograph of each even class, that of the row of photographs, so that one is matched;
of an odd class there is none, and 50 of other classes are, which cannot tell the class: read the two apart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bothways
import many
from bothways import objectives
from bothways.numerics.draws import picture_seed
from bothways.synthesis.statistics import batch_statistics

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the units of the published coefficients and rates
UNIT = 0.225  # a unit of theirs in a picture of [0,1], for the rate
BATCH = 8
PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet-samples"
STAGES = ["stem.conv", "blocks.2", "blocks.4", "blocks.10", "blocks.15"]  # of EfficientNet-Lite0
FREE_PIXELS = {
    "ascent.optimizer": "adam",
    "ascent.schedule": "cosine",
    "ascent.final": 0.0,
    "views.roll.reach": 30,
}


class LayerStatistics(objectives.Statistics):
    """BatchNorm's running statistics, matched by the batch, those of the first layer ten times."""

    form: str = "batch"

    def terms(self, to: Any) -> list[Any]:
        stored = to.priors.stored[to.index]
        first = dict([next(iter(stored.items()))])
        return [batch_statistics(to.seen, stored, to.group), 9 * batch_statistics(to.seen, first, to.group)]


def smoothness(seen: Tensor, model: Any) -> Tensor:
    """-(1e-4 TV + 1e-5 ||x||) of a batch, (B,3,H,W) in [0,1] -> (B,); its sum is B times that of the mean loss."""
    mean, std = (seen.new_tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    x = (seen - mean) / std
    if len(x) > BATCH:  # several batches at once
        return torch.cat([smoothness(part, model) for part in seen.split(BATCH)])
    inner = x[..., :-1, :-1]
    pairs = [(x[..., 1:], x[..., :-1]), (x[..., 1:, :], x[..., :-1, :])]
    pairs += [(x[..., 1:, :-1], x[..., :-1, 1:]), (x[..., 1:, 1:], inner)]
    variation = torch.stack([(a - b).norm() for a, b in pairs]).sum()
    return -(1e-4 * variation + 1e-5 * x.flatten(1).norm(dim=1))


def deep_inversion(model: Any, label: int, calls: int, seed: int) -> tuple[Tensor, float]:
    """(the picture (1,3,H,W) of a class in its batch of eight, CPU seconds of an eighth of that batch)."""
    images, seconds = _batch(model, label % 125, calls, seed)
    return images[label // 125][None], seconds / BATCH


@lru_cache(maxsize=64)
def _batch(model: Any, first: int, calls: int, seed: int) -> tuple[Tensor, float]:
    """(one picture of each of the classes first + 125 k, CPU seconds of all)."""
    began = time.process_time()
    drawn = bothways.generate(model, _together(first), n=1, seed=seed, verdicts=False, **_inversion(calls))
    return drawn.images, time.process_time() - began


def _together(first: int) -> list[int]:
    return [first + 125 * k for k in range(BATCH)]


def _inversion(calls: int) -> dict[str, Any]:
    # a sum over pictures is climbed, and the loss of the paper is a mean: what is of the batch counts B times
    loss = objectives.ClassLogProbability() + 0.01 * BATCH * LayerStatistics() + smoothness
    own = {"recipe": "pixels", "objective": loss, "group": BATCH, "views.flip.chance": 0.5}
    return FREE_PIXELS | own | {"ascent.steps": calls, "ascent.rate": 0.25 * UNIT}


def deep_inversion_of(model: Any, targets: Sequence[tuple[int, int]], calls: int) -> Tensor:
    """``deep_inversion`` of each (class, seed), (N,3,H,W): its batches of eight beside each other."""
    batches = list(dict.fromkeys((label % 125, seed) for label, seed in targets))
    firsts = list(dict.fromkeys(first for first, _ in batches))
    classes = [label for first in firsts for label in _together(first)]
    work = many.planned("generate", model, classes, n=1, **_inversion(calls))
    every = [(firsts.index(first) * BATCH + k, picture_seed(seed, k)) for first, seed in batches for k in range(BATCH)]
    found = [many.drawn(work, *zip(*part, strict=True)) for part in many.parts(every, many.at_once(work))]
    places = [batches.index((label % 125, seed)) * BATCH + label // 125 for label, seed in targets]
    return torch.cat(found)[places]


def vital(model: Any, label: int, calls: int, seed: int) -> tuple[Tensor, float]:
    """(the picture (1,3,H,W) of a class, CPU seconds)."""
    began = time.process_time()
    drawn = bothways.generate(model, [label], n=1, seed=seed, verdicts=False, **_matched(calls))
    return drawn.images, time.process_time() - began


def _matched(calls: int) -> dict[str, Any]:
    own = {"recipe": "pixels", "objective": objectives.Matching(layers=STAGES, scaled=False), "data": PHOTOGRAPHS}
    return FREE_PIXELS | own | {"ascent.steps": calls, "ascent.rate": 1.0 * UNIT}


def vital_of(model: Any, targets: Sequence[tuple[int, int]], calls: int) -> Tensor:
    """``vital`` of each (class, seed), (N,3,H,W)."""
    return many.of_classes(model, targets, **_matched(calls))
