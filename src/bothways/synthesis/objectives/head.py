"""The head's row of a class as a target for the features, in place of the class's probability.

    cos(f(x) - m, w_y - mean_k w_k)      f: what enters the head, averaged over space; w_k: its rows

m: 0, or the mean of f over real pictures.
A log-probability grows by any one of the features that speak for a class; the cosine is largest where all of them are
there in the row's proportion, and nothing else is.
"""

from __future__ import annotations

from typing import Any

import torch

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.objectives.base import Binding
from bothways.synthesis.objectives.classes import OfClass
from bothways.synthesis.objectives.terms import Term
from bothways.synthesis.sampling import toward_features
from bothways.types import UserError


@register("objective", "head-row", help="the class's row of the head, as a direction of features")
class HeadRow(OfClass):
    """Cosine of the features with the head's row of the class less the mean row."""

    centre: bool = setting(False, "subtract the mean over real pictures")

    def centre_layer(self, model: Any) -> str | None:
        head = model.head() if self.centre else None
        return None if head is None else head[0]

    def terms(self, to: Binding) -> list[Term]:
        labels = self.labels(to)
        if labels is None:
            return []
        head = to.model.head()
        if head is None:
            raise UserError(
                f"model {to.model.name!r} has no linear head, whose rows the objective compares with; "
                "type --recipe icons, or --set terms.class.weight=1 terms.head-row.weight=0"
            )
        layer, rows = head
        centred = (rows - rows.mean(0))[labels.to(rows.device)].to(to.model.device)
        mean = to.priors.means.get((to.model.name, layer)) if self.centre else torch.zeros_like(centred[0])
        if mean is None:
            raise UserError(
                f"terms.head-row.centre: no mean over real pictures of {layer!r}, the input of the head of model "
                f"{to.model.name!r}, is known; type --data FOLDER_OR_PARQUET, or --set terms.head-row.centre=false"
            )
        return [toward_features(to.seen, layer, mean, mean + centred)]
