"""What runs that follow a flow share: the facts that recipe.toml holds of it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bothways.models.velocity import Flow
from bothways.version import __version__


def fingerprint(flow: Flow) -> str:
    """The first 12 digits of the SHA-256 of the weights: a run is not to go on with others under the same address."""
    digest = hashlib.sha256()
    for value in flow.state_dict().values():
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def flow_tables(flow: Flow, settings: Mapping[str, Any], data: str | Path | None = None) -> dict[str, Any]:
    """The tables of recipe.toml: settings, the flow and versions."""
    spec = flow.spec
    facts = {
        "address": flow.name,
        "size": [spec.height, spec.width],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channel_order": spec.channel_order,
        "path": spec.path,
        "time_scale": spec.time_scale,
        "levels": spec.levels,
        "weights": fingerprint(flow),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "source": spec.source,
        "licence": spec.licence,
    }
    versions = {"bothways": __version__, "torch": torch.__version__, "python": platform.python_version()}
    given = {} if data is None else {"data": str(data)}
    return {"settings": {**settings, **given}, "model": facts, "versions": versions}
