"""A flow-based classifier as a plain torch module, for programs that know nothing of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from bothways.models.adapter import DTYPES, Adapter
from bothways.types import ModelSpec


@final
class Classifier(nn.Module):
    """A classifier of ``finetune`` as a module: pictures (B,3,H,W) in [0,1] -> logits (B,K), in eval mode at first.

        forward(image) = head(features(code(image)))

    It moves, trains, is saved and wrapped as any module: to, train, state_dict, torch.compile, DataParallel. Its
    attributes are also those of ``adapter``, the same classifier as a VisionModel, such as outputs, features, spec and
    name; functions of this package take either.
    """

    spec: ModelSpec
    name: str
    device: str
    outputs: Callable[[Tensor], Tensor]
    features: Callable[..., Any]

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.module = adapter.module
        self.adapter = adapter
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        dtype = self.adapter.dtype
        with torch.autocast(image.device.type, DTYPES[dtype], enabled=dtype != "float32"):
            logits: Tensor = self.module(image)
        return logits if logits.dtype == torch.float64 else logits.float()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "adapter" not in self.__dict__:  # while it is copied
                raise
            return getattr(self.adapter, name)

    def _apply(self, *given: Any, **options: Any) -> Classifier:
        super()._apply(*given, **options)
        self.adapter.device = str(next(self.module.parameters()).device)
        return self
