"""Inpainting objective: no jump across the edge of the hole (``inpainting.py``)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from bothways.registry import register
from bothways.synthesis.inpainting import boundary_consistency
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import IMAGE, Activations, Term
from bothways.types import UserError


@register("objective", "boundary", help="no jump across the edge of a masked photo's hole", reference="dsf")
class BoundaryConsistency(Objective):
    """Minus the squared jump across the mask's edge, relative to the photo's differences just outside it.

    The boundary condition of the score function's paper for inpainting. Raises UserError without a photo and a mask.
    """

    role: ClassVar[Role] = "image"

    def terms(self, to: Binding) -> list[Term]:
        if to.mask is None:
            raise UserError("objective 'boundary' needs a photo with a hole; type --mask FILE or --box L T R B with it")
        term, edge = boundary_consistency(to.required("photos"), to.mask.to(to.model.device)), to.border

        def measure(seen: Activations, pictures: int) -> Tensor:
            image = seen[IMAGE]
            high, wide = image.shape[-2:]
            return term.measure({IMAGE: image[..., edge : high - edge, edge : wide - edge]}, pictures)

        return [Term("boundary", measure)]
