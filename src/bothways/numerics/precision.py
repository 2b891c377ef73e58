"""Precisions that a device computes in by itself. In others it is slower than in float32, and no more exact."""

from __future__ import annotations

import torch

_OF_CPU = {"bf16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}  # without them: 6 to 16 times


def computes_in(dtype: object, device: str) -> bool:
    """Whether a device has arithmetic in "bf16" or "float16"; of float32, and where torch cannot tell, True."""
    kind = torch.device(device).type
    if kind == "cpu" and (name := _OF_CPU.get(str(dtype))):
        asked = getattr(torch.ops.mkldnn, name, None)
        return asked is None or bool(asked())
    if kind == "cuda" and dtype == "bf16":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True
