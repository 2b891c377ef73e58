"""What a transformers model answers, by the kind of its architecture: one tensor for each picture.

    ...ForImageClassification   logits (B,K)
    ...ForObjectDetection       logits and boxes of all queries (B,Q,K+1+4), flattened
    image and text towers       the embedding of the picture (B,D), as it is before any normalisation
    ...ModelWithProjection      the same, of an image tower alone
    ...Model                    the last hidden state, flattened: CLS and patch tokens (B,N,D), or a map (B,C,H,W)

Features are what enters the head of a classifier, and the last hidden state of all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FEATURES = "features"


@dataclass(frozen=True)
class Head:
    """ending: of the architecture's name. answer: what the model returns -> (B,...). classes: are these logits?"""

    ending: str
    answer: Callable[[Any], Tensor]
    classes: bool = False


TOWERS = Head("", lambda said: said.pooler_output)  # of two towers, known by their methods and not by their name
HEADS = (
    Head("ForImageClassification", lambda said: said.logits, classes=True),
    Head("ForImageClassificationWithTeacher", lambda said: said.logits, classes=True),
    Head("ForObjectDetection", lambda said: torch.cat([said.logits, said.pred_boxes], dim=-1)),
    Head("ModelWithProjection", lambda said: said.image_embeds),
    Head("Model", lambda said: said.last_hidden_state),
)


def head_for(architecture: type) -> Head | None:
    """The row of a transformers class; None where it has none, or takes no pictures."""
    if hasattr(architecture, "get_image_features") and hasattr(architecture, "get_text_features"):
        return TOWERS
    if getattr(architecture, "main_input_name", "") != "pixel_values":
        return None
    return next((head for head in HEADS if architecture.__name__.endswith(head.ending)), None)


class SingleOutput(nn.Module):
    """(B,3,H,W) -> (B,K): the answer of a transformers model; its last hidden state passes through ``features``."""

    def __init__(self, net: nn.Module, head: Head, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.head = net, head
        self.features = nn.Identity()
        self.projection = projection or nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        said = self.net(pixel_values=pixels)
        if not self.head.classes:
            self.features(said.last_hidden_state)
        return self.projection(self.head.answer(said)).flatten(1)
