"""Image priors from channel statistics: per picture, or of a group against BatchNorm's running statistics."""

from __future__ import annotations

from typing import ClassVar, Literal

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Term
from bothways.synthesis.sampling import statistics_name
from bothways.synthesis.statistics import batch_statistics, spread_statistics


@register("objective", "statistics", help="channel statistics like those of real pictures", reference="statistics")
class Statistics(Objective):
    """Image prior from channel statistics.

    form: "spread", of each picture against mean and spread over real pictures; "batch", of a group against BatchNorm's
    running statistics; "sampled", of each picture against a sample from their distribution.
    """

    role: ClassVar[Role] = "score"
    form: Literal["spread", "batch", "sampled"] = setting(
        "spread", "spread (per picture), batch (a group against BatchNorm), or sampled (per picture, to a sample)"
    )

    @property
    def needs(self) -> str:
        return {"spread": "spread", "batch": "stored", "sampled": "space"}[self.form]

    @property
    def coupled(self) -> bool:
        return self.form == "batch"

    def terms(self, to: Binding) -> list[Term]:
        if self.form == "spread":
            return [spread_statistics(to.seen, to.priors.spreads[to.index])]
        if self.form == "batch":
            return [batch_statistics(to.seen, to.priors.stored[to.index], to.group)]
        assert to.priors.space is not None
        parts = to.priors.space.of_statistics(to.index)
        if not parts:  # a model without normalisation layers and convolutions has no channel statistics
            return []
        spread = {layer: part.spread() for layer, part in parts.items()}
        targets = {layer: to.targets[statistics_name(layer, to.index)] for layer in parts}
        return [spread_statistics(to.seen, spread, targets)]
