"""Left-right mirror symmetry."""

from __future__ import annotations

from typing import ClassVar

from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Term, image_term


@register("objective", "symmetry", help="mirror symmetry: the left half like the right")
class Symmetry(Objective):
    """Left-right symmetry of the image, -mean (x - flip x)^2."""

    role: ClassVar[Role] = "image"

    def terms(self, to: Binding) -> list[Term]:
        return [image_term("symmetry", lambda image: -(image - image.flip(-1)).square().mean((1, 2, 3)))]
