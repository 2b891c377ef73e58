"""Objectives of sampling in function space: sampled features and the sampled class (``synthesis/sampling.py``)."""

from __future__ import annotations

from typing import ClassVar

from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.classes import class_log_probability
from bothways.synthesis.objectives.terms import Term
from bothways.synthesis.sampling import OUTPUTS, features_name, toward_features


class OfSample(Objective):
    """Base of the objectives that match a sample from the distribution over real pictures."""

    role: ClassVar[Role] = "score"

    @property
    def needs(self) -> str:
        return "space"


@register("objective", "features", help="features sampled from their distribution over real pictures")
class SampledFeatures(OfSample):
    """Match to sampled features, cos(f(x) - m, f* - m), f* the sample, m the mean over real pictures."""

    def terms(self, to: Binding) -> list[Term]:
        assert to.priors.space is not None
        found = []
        for layer, part in to.priors.space.of_features(to.index).items():
            if layer != OUTPUTS:
                target = to.targets[features_name(layer, to.index)]
                found.append(toward_features(to.seen, layer, part.mean, target))
        return found


@register("objective", "decision", help="class of the largest sampled logit, if no class is the target")
class SampledDecision(OfSample):
    """Log-probability log p(k|x) of the sampled class, k the argmax of the sampled logits."""

    def terms(self, to: Binding) -> list[Term]:
        assert to.priors.space is not None
        if to.conditioned or OUTPUTS not in to.priors.space.of_features(to.index):
            return []
        labels = to.targets[features_name(OUTPUTS, to.index)].argmax(1)
        return [class_log_probability(to.seen, labels)]
