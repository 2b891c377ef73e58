"""The discriminative score function as an objective (``synthesis/dsf``)."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.dsf.score import dsf
from bothways.synthesis.fields import Field, Inside
from bothways.synthesis.objectives.base import Binding, Objective, Role


@register("objective", "dsf", help="the discriminative score function; it drew on no model tried", reference="dsf")
class DiscriminativeScore(Objective):
    """-grad_x (||grad_theta l_aug|| - ||theta||), a field."""

    role: ClassVar[Role] = "score"
    surrogate: str = setting("logits", "its loss: logits, kl, pseudo-label, features")
    engine: str = setting("double_backward", "its derivative: double_backward, jvp, difference")
    per: str = setting("image", "whether each picture (image) or the batch has a gradient norm")
    live: str = setting("augmented", "the branch whose weights are live: augmented, original")
    distance: str = setting("norm", "its distance: norm, log, angle")
    augmentation: list[str] = setting(["flip"], "its augmentations: flip, roll, shift, noise, crop")
    parameters: str | None = setting(None, "a pattern of the parameters that count; none for all")

    @property
    def coupled(self) -> bool:
        return self.per == "batch"

    @property
    def needs_probe(self) -> bool:
        return True

    def fields(self, to: Binding) -> list[tuple[Field, bool]]:
        scored: Field = dsf(to.seen, to.draws, **self.model_dump())
        return [(Inside(scored, to.border) if to.border else scored, True)]
