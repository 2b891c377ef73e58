"""The report section of ``train``: measures["network"], every part of which may be missing.

{"accuracy", "low", "high", "n", "validation_accuracy", "parameters"}      low, high: the ends of a 95 % interval
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.parts import Facts, between
from bothways.report.sections import Run
from bothways.report.tables import MISSING, Cell, Table, cost_of, count, name, number, time
from bothways.report.training import progress_of
from bothways.tasks.train.result import TrainMeasures

__all__ = ["comparison_table", "progress_of", "schema", "section", "sentence_of", "work"]

schema = TrainMeasures

work = "training"


def facts_of(measures: Facts) -> Facts:
    """The measures of a network; {} if there are none."""
    facts = measures.get("network")
    return facts if isinstance(facts, Mapping) else {}


def sentence_of(run: Run) -> str:
    """Describe a run: "cifar10-resnet trained a classifier for 5,194 steps"."""
    trained = "a classifier" if run.model in ("", run.who) else f"the classifier {run.model}"
    return f"{run.who} trained {trained}" + (f" for {run.steps:,} step{'s' * (run.steps > 1)}" if run.steps else "")


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for an unfinished training."""
    if not (facts := facts_of(measures)):
        return None
    none = Cell(MISSING, kind="missing")
    rows = [
        [name("Accuracy"), number(facts.get("accuracy")), _interval(facts), count(facts.get("n"))],
        [name("The same, on held-out pictures"), number(facts.get("validation_accuracy")), none, none],
    ]
    numbers = Table("The classifier in numbers", ["", "Value", "95 % interval", "Test pictures"], rows)
    return {"strips": [], "depths": [], "numbers": numbers, "parts": []}


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per classifier. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures)
        cells = [number(facts.get("accuracy")), _interval(facts), count(facts.get("parameters"))]
        rows.append([name(label), *cells, time(cost_of(measures, status).get("seconds"))])
    return Table("Side by side", ["Run", "Accuracy", "95 % interval", "Parameters", "Time"], rows)


def _interval(facts: Facts) -> Cell:
    return between(facts.get("low"), facts.get("high"))
