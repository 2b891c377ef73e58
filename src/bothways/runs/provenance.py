"""What runs that follow a flow share: the facts that recipe.toml holds of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bothways.models.velocity import Flow
from bothways.runs.experiment import versions


def fingerprint(network: nn.Module) -> str:
    """The first 12 digits of the SHA-256 of the weights: a run is not to go on with others under the same address."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
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
    given = {} if data is None else {"data": str(data)}
    return {"settings": {**settings, **given}, "model": facts, "versions": versions()}
