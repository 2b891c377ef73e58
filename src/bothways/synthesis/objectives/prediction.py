"""Inpainting objective: channel statistics of the whole image, predicted from a smooth fill (``inpainting.py``)."""

from __future__ import annotations

from typing import ClassVar

from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Term


@register("objective", "prediction", help="channel statistics predicted from a masked picture")
class PredictedStatistics(Objective):
    """Match to predicted statistics, -1/L sum_layers mean_channels ((s - predicted) / e)^2."""

    role: ClassVar[Role] = "score"

    @property
    def needs(self) -> str:
        return "prediction"

    def terms(self, to: Binding) -> list[Term]:
        if not to.priors.predictions or to.filled is None:
            return []
        return [to.priors.predictions[to.index].term(to.seen, to.filled.to(to.main.device))]
