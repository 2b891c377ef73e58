"""Objectives of sampling in function space: sampled features and the sampled class (``synthesis/sampling.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from bothways.configs import Several, setting
from bothways.registry import register
from bothways.synthesis.directions import mixed_target
from bothways.synthesis.objectives.base import Binding, Objective, Role, WeightedSum
from bothways.synthesis.objectives.classes import class_log_probability
from bothways.synthesis.objectives.terms import Term
from bothways.synthesis.sampling import OUTPUTS, features_name, toward_features
from bothways.types import UserError


class OfSample(Objective):
    """Base of the objectives that match a sample from the distribution over real pictures."""

    role: ClassVar[Role] = "score"

    @property
    def needs(self) -> str:
        return "space"


@register("objective", "features", help="features sampled from their distribution over real pictures")
class SampledFeatures(OfSample):
    """Match to sampled features, sum_l w_l cos(f_l(x) - m_l, d_l) / sum_l w_l,   d_l = f*_l - m_l.

    f_l: the features of layer l, averaged over space or tokens; f*: the sample, of the same real pictures at all
    layers; m: the mean over real pictures. With a share of ``head`` d is mixed with what the head reads in f*
    (``synthesis/directions.py``), at a layer that enters one.
    """

    layers: Several | None = setting(
        None, "layers of the features, with --data PICTURES; default is the model's feature layer, or those of a file"
    )
    weights: list[Annotated[float, Field(ge=0)]] | None = setting(
        None, "w, one a layer of ``layers``; default is 1 each"
    )

    head: float = setting(
        0.0,
        "share of the direction that the network's own linear head reads in the sample, where there is one; "
        "0 is the sample's own direction",
        ge=0,
        le=1,
    )

    def weight_of(self, layers: Sequence[str]) -> dict[str, float]:
        """{layer: w_l / sum w}. layers: those that are matched where none are named. Raises UserError."""
        named = list(dict.fromkeys(map(str, self.layers or ())))
        if self.weights is None:
            return dict.fromkeys(named or layers, 1 / max(1, len(named or layers)))
        if len(self.weights) != len(named) or not sum(self.weights):
            raise UserError(
                f"terms.features.weights has {len(self.weights)} numbers, of sum {sum(self.weights):g}, for "
                f"{len(named)} named layers; type one a layer of terms.features.layers, not all of them 0"
            )
        return {layer: w / sum(self.weights) for layer, w in zip(named, self.weights, strict=True)}

    def terms(self, to: Binding) -> list[Term]:
        assert to.priors.space is not None
        parts = to.priors.space.of_features(to.index)
        shares = self.weight_of([layer for layer in parts if layer != OUTPUTS] or list(parts))
        if not shares:
            raise UserError(
                f"the statistics of model {to.model.name!r} hold no features; type --data FOLDER_OR_PARQUET, or "
                f"measure anew: bothways statistics {to.model.typed} --data FOLDER_OR_PARQUET"
            )
        if lacking := [layer for layer in shares if layer not in parts]:
            raise UserError(
                f"features of layer {lacking[0]!r} are named by one term and not by another, which leaves its layers "
                "open; type terms.NAME.layers for each"
            )
        found = []
        for layer, share in shares.items():
            name = "features" if len(shares) == 1 else f"features of {layer}"
            part, centre = features_name(layer, to.index), parts[layer].mean
            target = mixed_target(to.targets[part], centre, to.priors.space.heads.get(part), self.head)
            found.append(share * toward_features(to.seen, layer, centre, target, name))
        return [term for term in found if term.weight]


@register("objective", "decision", help="class of the largest sampled logit, if no class is the target")
class SampledDecision(OfSample):
    """Log-probability log p(k|x) of the sampled class, k the argmax of the sampled logits."""

    def terms(self, to: Binding) -> list[Term]:
        assert to.priors.space is not None
        if to.conditioned or not to.model.spec.count or OUTPUTS not in to.priors.space.of_features(to.index):
            return []
        labels = to.targets[features_name(OUTPUTS, to.index)].argmax(1)
        return [class_log_probability(to.seen, labels)]


def named_features(objective: WeightedSum) -> list[str]:
    """The layers whose features the objective names; none where any part leaves it open."""
    parts = [part for _, part in objective.parts if isinstance(part, SampledFeatures)]
    named = [str(layer) for part in parts for layer in part.layers or ()]
    return list(dict.fromkeys(named)) if all(part.layers for part in parts) else []
