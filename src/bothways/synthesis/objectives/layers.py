"""A layer of a model: that a channel fires, or that everything in it does.

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
    """The activation of a channel of a layer, or the energy of the layer where no channel is named."""

    role: ClassVar[Role] = "condition"
    layer: str | None = setting(None, "the layer's name; none for the one that --layer names")
    channel: int | None = setting(None, "its channel; none for those that --channel names", ge=0)

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
    """How strongly each picture's channel of a layer fires, (B,).

        mean over positions of a_c,   a: (B,C,H,W), (B,tokens,C), or (B,C), which has one position

    layer: a module's dotted name, that with ":input", or "outputs". channels: (B,) whole numbers from 0, one for each
    picture. Raises UserError, when it is asked, for a layer or a channel that is not there.
    """
    if channels.ndim != 1 or channels.dtype.is_floating_point or bool((channels < 0).any()):
        raise UserError(f"channels {channels.tolist()}: give one whole number from 0 for each picture, shape (B,)")

    def measure(seen: Activations, pictures: int) -> Tensor:
        found = vectors(seen[layer], layer)
        highest, count = int(channels.max()), found.shape[1]
        if highest >= count:
            raise UserError(
                f"model {model.name!r}: layer {layer!r} has {count} channels and none is number {highest}; "
                f"type 0 to {count - 1}"
            )
        wanted = channels.to(found.device).repeat_interleave(len(found) // len(channels))
        return per_picture(found.gather(1, wanted[:, None])[:, 0], pictures)

    return Term(f"channel of {layer}", measure, model, (layer,))


def layer_energy(model: VisionModel, layer: str) -> Term:
    """How strongly a layer fires as a whole: mean over channels and positions of a^2, (B,). Any shape (B,...)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return per_picture(seen[layer].flatten(1).square().mean(1), pictures)

    return Term(f"energy of {layer}", measure, model, (layer,))
