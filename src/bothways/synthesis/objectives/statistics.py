"""Channel statistics like those of real pictures: each picture's own, or a group's against BatchNorm's."""

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
    """A prior from channel statistics.

    form: "spread", each picture's own against their mean and spread over real pictures; "batch", those of a group
    against BatchNorm's running ones; "sampled", each picture's own against a point drawn from their distribution.
    """

    role: ClassVar[Role] = "score"
    form: Literal["spread", "batch", "sampled"] = setting("spread", "whose statistics are matched to what")

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
        if not parts:  # a model without norms and convolutions has features alone
            return []
        spread = {layer: part.spread() for layer, part in parts.items()}
        targets = {layer: to.targets[statistics_name(layer, to.index)] for layer in parts}
        return [spread_statistics(to.seen, spread, targets)]
