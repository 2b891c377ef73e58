"""Negative entropy of the predicted class distribution."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Activations, Term, per_picture
from bothways.types import VisionModel


@register("objective", "certainty", help="negative entropy of the prediction; no label")
class Certainty(Objective):
    """Negative entropy of the prediction, sum_k p_k log p_k, p = softmax z(x)."""

    role: ClassVar[Role] = "score"

    def terms(self, to: Binding) -> list[Term]:
        return [certainty(to.seen)]


def certainty(model: VisionModel) -> Term:
    """Negative entropy of the prediction, sum_k p_k log p_k, p = softmax z(x); no label."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        log_p = seen["outputs"].log_softmax(1)
        return per_picture((log_p.exp() * log_p).sum(1), pictures)

    return Term("certainty", measure, model, ("outputs",))
