"""Feature visualization of a layer: a channel's activation, or the energy of the whole layer (DeepDream).

channel: mean over positions of a_c        (Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017)
energy:  mean over positions and channels of a^2        (DeepDream: Mordvintsev, Olah & Tyka, Google, 2015)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Activations, Term, per_picture, vectors
from bothways.types import UserError, VisionModel


@register("objective", "channel", help="the activation of a channel, or of a whole layer", reference="fourier")
class Channel(Objective):
    """Activation of a channel of a layer, or the energy of the layer if no channel is set."""

    role: ClassVar[Role] = "condition"
    layer: str | None = setting(None, "name of the layer; default is that of --layer")
    channel: int | None = setting(None, "channel of the layer; default is that of --channel", ge=0)

    def terms(self, to: Binding) -> list[Term]:
        layer = self.layer or to.layer
        if layer is None or to.model is not to.main:
            return []
        channels = to.channels
        if self.channel is not None:
            channels = torch.full((len(to.labels),), self.channel)
        elif self.layer is not None:
            channels = None
        return [layer_energy(to.seen, layer) if channels is None else channel_activation(to.seen, layer, channels)]


def channel_activation(model: VisionModel, layer: str, channels: Tensor) -> Term:
    """Mean activation of each picture's channel of a layer, (B,).

        mean over positions of a_c,   a: (B,C,H,W), (B,tokens,C), or (B,C), which has one position

    layer: a module's dotted name, that with ":input", or "outputs". channels: (B,) integers from 0, one per picture.
    The term raises UserError, when evaluated, for a layer or a channel that does not exist.
    """
    if channels.ndim != 1 or channels.dtype.is_floating_point or bool((channels < 0).any()):
        raise UserError(f"channels {channels.tolist()}: give one integer from 0 per picture, shape (B,)")

    def measure(seen: Activations, pictures: int) -> Tensor:
        activation = vectors(seen[layer], layer)
        highest, count = int(channels.max()), activation.shape[1]
        if highest >= count:
            raise UserError(
                f"model {model.name!r}: layer {layer!r} has {count} channels and none is number {highest}; "
                f"type 0 to {count - 1}"
            )
        index = channels.to(activation.device).repeat_interleave(len(activation) // len(channels))
        return per_picture(activation.gather(1, index[:, None])[:, 0], pictures)

    return Term(f"channel of {layer}", measure, model, (layer,))


def layer_energy(model: VisionModel, layer: str) -> Term:
    """Energy of a layer: the mean over channels and positions of a^2, (B,), for activations of any shape (B,...)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return per_picture(seen[layer].flatten(1).square().mean(1), pictures)

    return Term(f"energy of {layer}", measure, model, (layer,))
