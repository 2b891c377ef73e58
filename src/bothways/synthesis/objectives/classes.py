"""Class objectives: log-probability or logit."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.objectives.base import NO_CLASS, Binding, Objective, Role
from bothways.synthesis.objectives.terms import Activations, Term, chosen_output
from bothways.types import VisionModel


class OfClass(Objective):
    """Base of the objectives of each picture's class, or of one class for all."""

    role: ClassVar[Role] = "condition"
    target: str | int | None = setting(None, "class of all pictures, by name or number; default is each picture's own")

    def labels(self, to: Binding) -> Tensor | None:
        """Target indices (B,) of the model's own classes; None without a target class."""
        if self.target is not None:
            return to.labels.new_full(to.labels.shape, to.own_label(to.model, self.target)).to(to.model.device)
        return None if to.labels[0] == NO_CLASS else to.own_labels(to.model, to.labels).to(to.model.device)


@register("objective", "class", help="log p(class | picture)", reference="das")
class ClassLogProbability(OfClass):
    """Log-probability of the class, log p(y|x) = z_y - logsumexp z."""

    def terms(self, to: Binding) -> list[Term]:
        labels = self.labels(to)
        return [] if labels is None else [class_log_probability(to.seen, labels)]


@register("objective", "class-logit", help="the logit of the class", reference="das")
class ClassLogit(OfClass):
    """Logit of the class, z_y(x)."""

    def terms(self, to: Binding) -> list[Term]:
        labels = self.labels(to)
        return [] if labels is None else [class_logit(to.seen, labels)]


def class_logit(model: VisionModel, labels: Tensor) -> Term:
    """Logit z_y(x) of each picture's class. labels (B,)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return chosen_output(seen["outputs"], labels)

    return Term("logit", measure, model, ("outputs",))


def class_log_probability(model: VisionModel, labels: Tensor) -> Term:
    """Log-probability log p(y|x) = z_y - logsumexp z of each picture's class. labels (B,)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return chosen_output(seen["outputs"].log_softmax(1), labels)

    return Term("log probability", measure, model, ("outputs",))
