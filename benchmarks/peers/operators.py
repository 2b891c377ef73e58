"""What torchvision needs beside a torch of another build: without it nothing that imports torchvision starts."""

from __future__ import annotations

import sys

import torch

OPERATORS: list[torch.library.Library] = []


def declare_torchvision() -> None:
    """Declare the two operators without which a torchvision of another torch does not import."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        for name in ("nms", "qnms"):
            OPERATORS.append(torch.library.Library("torchvision", "FRAGMENT"))  # a definition lasts as long as it
            OPERATORS[-1].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
