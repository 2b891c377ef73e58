"""Cards of the bundled models (JSON beside safetensors). Free of torch, since lists and help pages read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bothways.registry import nearest
from bothways.types import UserError

BUNDLED = Path(__file__).parent / "bundled"
FLOW_CARD = "flow.json"  # in a run of pretrain
CLASSIFIER_CARD = "classifier.json"  # in a run of finetune


def bundled_names() -> list[str]:
    """Names of the bundled models, for ``load_model``."""
    return _bundled("model")


def bundled_flows() -> list[str]:
    """Names of the bundled flows, for ``load_flow``."""
    return _bundled("flow")


def bundled_classifiers() -> list[str]:
    """Names of the bundled flow-based classifiers, for ``load_classifier``."""
    return _bundled("classifier")


def card(name: str) -> dict[str, Any]:
    """Card of a bundled model: network, spec, data, accuracy with its interval, licence, limits."""
    return json.loads(card_file(name).read_text())


def card_file(name: str) -> Path:
    """File of a bundled model's card. Raises UserError for an unknown name, with the nearest."""
    if name not in _all_bundled():
        raise UserError(f"no bundled model {name!r}; {nearest(name, _all_bundled())}")
    return BUNDLED / f"{name}.json"


def _all_bundled() -> list[str]:
    return sorted(path.stem for path in BUNDLED.glob("*.json"))


def _bundled(kind: str) -> list[str]:
    return [name for name in _all_bundled() if _kind(card(name)) == kind]


def _kind(facts: dict[str, Any]) -> str:
    """Kind of a card by its keys: "model", "flow" or "classifier"."""
    if "features" in facts:
        return "classifier"
    return "model" if facts["spec"].get("path") is None else "flow"
