"""Direct Ascent Synthesis (DAS): the gradient of an objective averaged over random views.

    dx = grad_x (1/n) sum_j objective(A_j(x)),   A_j: roll, crop, noise            (Fort & Whitaker, arXiv 2502.07753)

The image is parameterized as a multi-resolution stack (``parameterizations.stack.ImageStack``).

Departures: each term may be scaled to unit norm per picture before it is weighted, since gradients of different
terms and models differ by orders of magnitude; terms on the picture itself (total variation) see it unaugmented.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bothways.faults import CUTS
from bothways.numerics.draws import Draws
from bothways.synthesis.fields import Field, averaged, unit
from bothways.synthesis.objectives.terms import Term, TermSum
from bothways.synthesis.views import Views
from bothways.types import UserError


@dataclass
class Toward(Field):
    """The gradient field of an objective, see ``toward``."""

    objective: TermSum
    views: Views
    draws: Draws
    normalize: bool = False
    stats: dict[str, Tensor] = field(default_factory=dict)
    checked: bool = False

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            image = x.detach().requires_grad_()
            values = self.objective.values(image, self.views(image, self.draws, float(t[0])))
            self.stats = averaged((term.name, v.detach()) for term, v in zip(self.objective.terms, values, strict=True))
            _check_graph(self.objective.terms, values)
            if not self.checked:
                self.checked = True
                warn_of_vanishing(self.objective.terms, values, image)
            weights = [term.weight for term in self.objective.terms]
            if not self.normalize:
                total = torch.stack([weight * value.sum() for weight, value in zip(weights, values, strict=True)]).sum()
                return torch.autograd.grad(total, image)[0]
            gradients = [
                torch.autograd.grad(v.sum(), image, retain_graph=k < len(values) - 1)[0] for k, v in enumerate(values)
            ]
        return sum((w * unit(g) for w, g in zip(weights, gradients, strict=True)), torch.zeros_like(x))


def _check_graph(terms: Sequence[Term], values: Sequence[Tensor]) -> None:
    """Raise UserError for a term whose values have no gradient at all."""
    for term, value in zip(terms, values, strict=True):
        if not value.requires_grad and term.weight:
            name = getattr(term.model, "name", None)
            of = "" if name is None else f" of model {name!r}"
            raise UserError(f"objective {term.name!r}{of} gives values without a gradient; {CUTS}")


def warn_of_vanishing(terms: Sequence[Term], values: Sequence[Tensor], image: Tensor) -> None:
    """Warn of each term of a model whose gradient with respect to some picture (of B,3,H,W) is exactly zero."""
    for term, value in zip(terms, values, strict=True):
        if term.model is None or term.compares or not term.weight:
            continue  # a term of the picture itself, such as smoothness, is at its best on a grey start
        found = None
        if value.requires_grad:
            found = torch.autograd.grad(value.sum(), image, retain_graph=True, allow_unused=True)[0]
        still = len(image) if found is None else int((found.flatten(1).abs().amax(1) == 0).sum())
        if still:
            warnings.warn(
                f"objective {term.name!r} (layer {', '.join(term.layers)}): its gradient is zero for {still} of "
                f"{len(image)} pictures at the first step, so it does not move them; take a layer before it",
                stacklevel=2,
            )


def toward(objective: Term | TermSum, draws: Draws, views: Views | None = None, *, normalize: bool = False) -> Toward:
    """Gradient of an objective as a field (x, t) -> dx, (B,3,H,W).

    draws: the pictures' seeds. views: augmentations of the models' input; None for the picture itself.
    normalize: divide the gradient of each term by its L2 norm, per picture, before weighting.
    """
    summed = objective if isinstance(objective, TermSum) else TermSum((objective,))
    return Toward(summed, views or Views(), draws, normalize)
