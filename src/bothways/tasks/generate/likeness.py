"""The terms by which one model says that a picture is what was asked: class, words, channel, photo, style."""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.models.adapter import Adapter
from bothways.synthesis.activations import channel_activation, layer_energy
from bothways.synthesis.objectives import Term, class_log_probability, class_logit, vectors
from bothways.synthesis.resemblance import content, direction, style, style_statistics, words
from bothways.synthesis.resized import Resized
from bothways.tasks.generate.asked import NO_CLASS, Asked, Batch
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.generate.roles import labels_of
from bothways.types import UserError, VisionModel


def asked_terms(
    model: Adapter, eye: VisionModel, settings: DrawSettings, asked: Asked, batch: Batch, main: Adapter
) -> list[Term]:
    """What is asked of one condition model. eye: how it sees the pictures; main: whose classes and layers are named."""
    terms: list[Term] = []
    if batch.labels[0] != NO_CLASS:
        own = labels_of(model, main, batch.labels).to(model.device)
        term = class_logit if settings.objective == "logit" else class_log_probability
        terms.append(settings.class_weight * term(eye, own))
    if asked.prompts:
        texts, weights = zip(*asked.prompts, strict=True)
        terms.append(settings.text_weight * words(eye, model.text(texts), torch.tensor(weights, device=model.device)))
    if asked.layer is not None and model is main:
        channels = batch.channels
        wanted = layer_energy(eye, asked.layer) if channels is None else channel_activation(eye, asked.layer, channels)
        terms.append(settings.channel_weight * wanted)
    return terms + _like_pictures(model, eye, settings, batch)


def _like_pictures(model: Adapter, eye: VisionModel, settings: DrawSettings, batch: Batch) -> list[Term]:
    """The terms that look at the photos and the styles themselves, each at the model's own size."""
    own = Resized(model)
    photos, styles = (
        None if part is None else part.to(model.device) for part in (batch.scene.photos, batch.scene.style)
    )
    terms: list[Term] = []
    if settings.embedding_weight:
        layer = settings.embedding_layer or model.spec.feature_layer or "outputs"
        wanted = vectors(_seen(own, _given(photos if styles is None else styles, "PHOTO"), layer), layer)
        terms.append(settings.embedding_weight * direction(eye, layer, wanted, "embedding"))
    if settings.content_weight:
        if settings.jitter or settings.shift or settings.flip:
            raise UserError(
                "the photo's content is held place by place, so it cannot be seen through jitter, shift or flip; "
                "type --set jitter=0 shift=0 flip=false, or --set content_weight=0"
            )
        layer = settings.content_layer or middle_layer(model)
        terms.append(settings.content_weight * content(eye, layer, _seen(own, _given(photos, "PHOTO"), layer)))
    if settings.style_weight:
        targets = style_statistics(own, _given(styles, "STYLE"), tuple(model.statistics_layers()))
        terms.append(settings.style_weight * style(eye, targets))
    return terms


def middle_layer(model: Adapter) -> str:
    """Half way through the layers whose statistics say most."""
    layers = model.statistics_layers()
    if not layers:
        raise UserError(
            f"model {model.name!r} has no layer that is known to hold content; type --set content_layer=NAME"
        )
    return layers[len(layers) // 2]


@torch.no_grad()
def _seen(eye: VisionModel, pictures: Tensor, layer: str) -> Tensor:
    return eye.features(pictures, [layer])[layer]


def _given(pictures: Tensor | None, what: str) -> Tensor:
    if pictures is None:
        raise UserError(f"the recipe holds a picture to a {what.lower()}, and none was given; type {what}")
    return pictures
