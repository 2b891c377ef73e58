"""The best step of a training by a measure on held-out pictures, from the lines of along.jsonl.

The same pictures choose the step and measure it, so its value is better than that of new pictures would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BEST = "best"  # folder of the kept copy in the run folder
ACCURACY, LOSS = "accuracy", "flow_matching"  # the measures that can choose: the highest, the lowest


def best_step(lines: Sequence[Mapping[str, Any]], measure: str) -> tuple[int, float] | None:
    """(step, value) of the best line after the first step, the earliest of several; None without any."""
    found = [(_score(line, measure), line["step"]) for line in lines if line["step"] > 0]
    known = [(score, step) for score, step in found if score is not None]
    if not known:
        return None
    score, step = max(known, key=lambda both: (both[0], -both[1]))
    return step, score if measure == ACCURACY else -score


def _score(line: Mapping[str, Any], measure: str) -> float | None:
    """The measure of a line, higher for better; None if it has none."""
    if measure == ACCURACY:
        return (line.get(ACCURACY) or {}).get("value")
    loss = line.get(LOSS)
    return None if loss is None else -loss
