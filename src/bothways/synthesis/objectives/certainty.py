"""The certainty of a model, whatever it sees."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Activations, Term, per_picture
from bothways.types import VisionModel


@register("objective", "certainty", help="minus the entropy of the model's own answer; no label")
class Certainty(Objective):
    """sum_k p_k log p_k, p = softmax z(x)."""

    role: ClassVar[Role] = "score"

    def terms(self, to: Binding) -> list[Term]:
        return [certainty(to.seen)]


def certainty(model: VisionModel) -> Term:
    """sum_k p_k log p_k, p = softmax z(x): minus the entropy of the model's own answer, whatever it is. No label."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        answer = seen["outputs"].log_softmax(1)
        return per_picture((answer.exp() * answer).sum(1), pictures)

    return Term("certainty", measure, model, ("outputs",))
