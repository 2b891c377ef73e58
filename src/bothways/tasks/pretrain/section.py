"""The report section of ``pretrain``: measures["flow"], every part of which may be missing.

{"validation_loss", "validation_error" (standard error), "validation_pictures", "training_loss", ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.numerics.intervals import interval_of
from bothways.report.axes import is_number
from bothways.report.parts import Facts, between
from bothways.report.tables import MISSING, Cell, Table, cost_of, count, name, number, time
from bothways.report.training import progress_of, sentence_of
from bothways.tasks.pretrain.result import PretrainMeasures

__all__ = ["comparison_table", "facts_of", "progress_of", "schema", "section", "sentence_of", "work"]

schema = PretrainMeasures

work = "training"
MANY = 10**9  # pictures where their number is missing: the quantile is then the normal one
NOTE = (
    "Loss: half the squared error of the velocity, summed over channels. Its minimum is positive where paths cross: "
    "half the variance of the velocity given the state."
)


def facts_of(measures: Facts) -> Facts | None:
    """The losses of a run; None if it trained no flow."""
    facts = measures.get("flow")
    return facts if isinstance(facts, Mapping) and "validation_loss" in facts else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run that trained no flow."""
    facts = facts_of(measures)
    return None if facts is None else {"strips": [], "depths": [], "numbers": numbers_table(facts), "parts": []}


def numbers_table(facts: Facts) -> Table:
    """The table of the losses on held-out pictures and in the last steps."""
    none, one_draw = Cell(MISSING, kind="missing"), name("one fixed draw")
    held, pictures = number(facts.get("validation_loss")), count(facts.get("validation_pictures"))
    rows = [
        [name("Loss on held-out pictures"), held, _interval(facts), pictures, one_draw],
        [name("Loss in training"), number(facts.get("training_loss")), none, none, name("the last 100 steps")],
    ]
    return Table("The flow in numbers", ["", "Value", "95 % interval", "Pictures", "Measured by"], rows, NOTE)


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per flow. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        losses = [number(facts.get("validation_loss")), _interval(facts), number(facts.get("training_loss"))]
        rows.append([name(label), *losses, time(cost_of(measures, status).get("seconds"))])
    columns = ["Run", "Loss on held-out pictures", "95 % interval", "Loss in training", "Time"]
    return Table("Side by side", columns, rows, f"{NOTE} Losses of different paths are not comparable.")


def _interval(facts: Facts) -> Cell:
    held, error, n = (facts.get(f"validation_{name}") for name in ("loss", "error", "pictures"))
    if held is None or error is None or not (is_number(held) and is_number(error)):
        return Cell(MISSING, kind="missing")
    _, *ends = interval_of(held, error, n if isinstance(n, int) else MANY)
    return between(*ends)
