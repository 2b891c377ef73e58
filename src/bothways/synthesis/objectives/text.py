"""Text prompts for vision-language models: weighted cosine similarities."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Activations, Term, per_picture
from bothways.types import VisionModel


@register("objective", "text", help="cosine similarity with prompts, each with a signed weight", reference="das")
class Text(Objective):
    """Weighted cosine similarity with prompts, sum_k w_k cos(f(x), text_k)."""

    role: ClassVar[Role] = "condition"
    prompt: str | None = setting(None, "prompt of all pictures; default is that of --prompt")

    def terms(self, to: Binding) -> list[Term]:
        prompts = to.prompts if self.prompt is None else ((self.prompt, 1.0),)
        if not prompts:
            return []
        texts, weights = zip(*prompts, strict=True)
        return [text_similarity(to.seen, to.model.text(texts), torch.tensor(weights, device=to.model.device))]


def text_similarity(model: VisionModel, texts: Tensor, weights: Tensor) -> Term:
    """sum_k w_k cos(f, text_k) in the space of the outputs. texts: (K,D), text embeddings; weights: (K,)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        cosines = torch.cosine_similarity(seen["outputs"][:, None], texts, dim=2)
        return per_picture(cosines @ weights, pictures)

    return Term("text", measure, model, ("outputs",))
