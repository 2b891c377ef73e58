"""Provenance of a run: versions, facts of models and flows, fingerprints of weights, peak memory."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bothways.types import Flow, ModelSpec, VisionModel
from bothways.version import __version__


def versions() -> dict[str, str]:
    """The versions of bothways, torch and Python."""
    return {"bothways": __version__, "torch": torch.__version__, "python": platform.python_version()}


def fingerprint(network: nn.Module) -> str:
    """The first 12 digits of the SHA-256 of the weights, by which a run or a file knows those that it was made of."""
    return digest_of(network.state_dict().values())


def digest_of(tensors: Iterable[Tensor]) -> str:
    """The first 12 digits of the SHA-256 of what they hold."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def model_facts(model: VisionModel) -> dict[str, Any]:
    """The facts of a model in recipe.toml."""
    spec = model.spec
    return {
        "address": model.name,
        "size": [spec.height, spec.width],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channel_order": spec.channel_order,
        **_reading(spec),
        "classes": spec.count,
        "source": spec.source,
        "licence": spec.licence,
    }


def flow_facts(flow: Flow) -> dict[str, Any]:
    """The facts of a flow in recipe.toml, with the fingerprint of its weights."""
    spec = flow.spec
    assert isinstance(flow, nn.Module)
    latents: Any = getattr(flow, "latents", None)
    return {
        "address": flow.name,
        "size": [spec.height, spec.width],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channel_order": spec.channel_order,
        "path": spec.path,
        "time_scale": spec.time_scale,
        **({"time_first": True} if spec.time_first else {}),
        **_reading(spec),
        "levels": spec.levels,
        **({} if latents is None else {"latent": latents.channels, "autoencoder": fingerprint(latents)}),
        "weights": fingerprint(flow),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "source": spec.source,
        "licence": spec.licence,
    }


def _reading(spec: ModelSpec) -> dict[str, Any]:
    """How pictures are read for a model, where that is not ours."""
    own = {name: getattr(spec, name) for name in ("crop", "interpolation", "squash")}
    return {} if own == {"crop": 1.0, "interpolation": "bicubic", "squash": False} else own


def peak_memory(device: str) -> float:
    """Peak memory in MiB: allocated on the GPU if one is used, else the resident size of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
