"""The output tensor of a transformers model, by the kind of its architecture.

    ...ForImageClassification   logits (B,K)
    ...ForObjectDetection       logits and boxes of all queries (B,Q,K+1+4), flattened
    image and text towers       the embedding of the picture (B,D), not normalised
    ...ModelWithProjection      the same, of an image tower alone
    ...Model                    the last hidden state, flattened: CLS and patch tokens (B,N,D), or a map (B,C,H,W)

Features are the input of a classifier's head, and the last hidden state of all others.
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
    """Output rule. ending: of the architecture's name. answer: model output -> (B,...). classes: whether logits."""

    ending: str
    answer: Callable[[Any], Tensor]
    classes: bool = False


TOWERS = Head("", lambda output: output.pooler_output)  # two-tower models are recognised by their methods
HEADS = (
    Head("ForImageClassification", lambda output: output.logits, classes=True),
    Head("ForImageClassificationWithTeacher", lambda output: output.logits, classes=True),
    Head("ForObjectDetection", lambda output: torch.cat([output.logits, output.pred_boxes], dim=-1)),
    Head("ModelWithProjection", lambda output: output.image_embeds),
    Head("Model", lambda output: output.last_hidden_state),
)


def head_for(architecture: type) -> Head | None:
    """Output rule of a transformers class; None if there is none, or if it takes no images."""
    if hasattr(architecture, "get_image_features") and hasattr(architecture, "get_text_features"):
        return TOWERS
    if getattr(architecture, "main_input_name", "") != "pixel_values":
        return None
    return next((head for head in HEADS if architecture.__name__.endswith(head.ending)), None)


class SingleOutput(nn.Module):
    """A transformers model with one output tensor (B,K); its last hidden state passes through ``features``."""

    def __init__(self, net: nn.Module, head: Head, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.head = net, head
        self.features = nn.Identity()
        self.projection = projection or nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.net(pixel_values=pixels)
        if not self.head.classes:
            self.features(output.last_hidden_state)  # so that a hook on this layer sees it
        return self.projection(self.head.answer(output)).flatten(1)
