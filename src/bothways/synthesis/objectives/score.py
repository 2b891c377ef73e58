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
    """The DSF score field, -grad_x (||grad_theta l_aug|| - ||theta||)."""

    role: ClassVar[Role] = "score"
    surrogate: str = setting("logits", "surrogate loss: logits, kl, pseudo-label, features")
    engine: str = setting("double_backward", "differentiation: double_backward, jvp, difference")
    per: str = setting("image", "gradient norm per image or per batch")
    live: str = setting("augmented", "branch without stop-gradient on the weights: augmented, original")
    distance: str = setting("norm", "distance of the gradient: norm, log, angle, l2, inner, layers")
    target: str = setting("attached", "branch with the stop-gradient, in the picture: attached, detached")
    residual: str = setting("live", "derivative of the loss in the output: live, held, random (control)")
    gradient_clip: float | None = setting(None, "bound on every number of the parameter gradient")
    augmentation: list[str] = setting(
        ["flip"], "augmentations: flip, roll, shift, noise, crop, colour; crop+flip: both"
    )
    copies: int = setting(1, "views per augmentation")
    parameters: str | None = setting(None, "pattern of parameter names for theta; default is all")
    last: int | None = setting(None, "only the parameters of the last modules, 1: the head")
    relu: str = setting("relu", "ReLU layers in the score: relu, softplus (smooth)")
    batch_norm: str = setting("eval", "BatchNorm in the score: eval, train (statistics of the batch)")
    direction: str = setting("score", "direction of the field: score, random (control, of the score's length)")

    @property
    def coupled(self) -> bool:
        return self.per == "batch"

    @property
    def needs_probe(self) -> bool:
        return True

    def fields(self, to: Binding) -> list[tuple[Field, bool]]:
        scored: Field = dsf(to.seen, to.draws, **self.model_dump())
        return [(Inside(scored, to.border) if to.border else scored, True)]
