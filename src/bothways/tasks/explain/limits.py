"""The limits of an audit (``--fail-on``), for use in CI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def exceeded_limits(found: dict[str, Any], limits: Sequence[tuple[str, float]]) -> list[str]:
    """The exceeded limits, a line each.

    consistency: of a class. entanglement: of a listed pair, the share of portraits of one class in which the model
    itself recognises the other.
    """
    lines = []
    for measured, limit in limits:
        if measured == "consistency":
            values = [(facts["name"], facts["consistency"]["value"]) for facts in found["classes"]]
        else:
            pairs = [pair for viewer in found["entanglement"] if viewer["own"] for pair in viewer["pairs"]]
            values = [(f"{pair['seen']} in {pair['class']}", pair["share"]) for pair in pairs]
        lines += [f"{measured} of {name} is {v:.2f}, over {limit:g}" for name, v in values if v > limit]
    return lines
