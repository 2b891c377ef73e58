"""What onnxruntime, which others run an ONNX file by, computes of one."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from bothways.processes.quiet import keep_quiet


def by_onnxruntime(content: bytes, images: Tensor) -> Tensor | None:
    """The outputs of a file's program for pictures; None where onnxruntime is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    keep_quiet()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
