"""The report section of ``finetune``: measures["classifier"].

{"accuracy", "low", "high", "n", "cross_entropy", "flow_matching", "flow_matching_before", "kind", "depth",
 "activation_depth", "beta", "frozen", "pretrained", "pictures", "classes"}

low, high: the ends of a 95 % interval. Any part may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report import compared
from bothways.report.axes import is_number
from bothways.report.charts import Chart
from bothways.report.parts import Facts, between
from bothways.report.sections import Run
from bothways.report.tables import Cell, Table, cost_of, count, name, number, time
from bothways.report.training import progress_of, sentence_of
from bothways.runs.files import dotted
from bothways.tasks.finetune.config import NAMES
from bothways.tasks.finetune.result import FinetuneMeasures

__all__ = [
    "charts_of",
    "choices_of",
    "comparison_table",
    "facts_of",
    "progress_of",
    "schema",
    "section",
    "sentence_of",
    "work",
]

schema = FinetuneMeasures


work = "training"
MEASURED = {"depth": "depth", "activation_depth": "activation_depth", "beta": "beta", "labels": "pictures"}

NOTE = (
    "On held-out pictures. Compare walked pictures with the controls: the flow's activations, raw pixels under the "
    "same head, and a network without pretraining. The flow-matching losses before and after use the "
    "same noise and times."
)

READ = {
    "walked": "pictures walked to depth {depth:g}",
    "activations": "activations at depth {activation_depth:g}",
    "both": "pictures walked to depth {depth:g}, activations at {activation_depth:g}",
    "pixels": "pixels alone",
}


def facts_of(measures: Facts) -> Facts | None:
    """The measures of a classifier; None for a run without one."""
    facts = measures.get("classifier")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run without a classifier."""
    facts = facts_of(measures)
    return None if facts is None else {"numbers": numbers_table(facts), "parts": []}


def what_is_read(facts: Facts) -> Cell:
    """The features in words, with "flow frozen" or "not pretrained" for controls."""
    try:
        words = [READ[str(facts.get("kind"))].format(**facts)]
    except (KeyError, ValueError, TypeError):
        words = [str(facts.get("kind") or "")]
    words += ["flow frozen"] if facts.get("frozen") and facts.get("kind") != "pixels" else []
    words += ["not pretrained"] if facts.get("pretrained") is False else []
    return name(", ".join(words))


def numbers_table(facts: Facts) -> Table:
    """The table of the scores of a classifier."""
    ends, pictures = between(facts.get("low"), facts.get("high")), count(facts.get("n"))
    none = name("")
    own = [
        [name("Accuracy"), number(facts.get("accuracy")), ends, pictures],
        [name("Cross-entropy"), number(facts.get("cross_entropy")), none, pictures],
    ]
    rows = [
        *([score_row(row, pictures) for row in facts["scores"]] if facts.get("scores") else own),
        [name("Flow-matching loss"), number(facts.get("flow_matching")), none, pictures],
        [name("The same, before"), number(facts.get("flow_matching_before")), none, pictures],
    ]
    return Table("The classifier in numbers", ["", "Value", "95 % interval", "Pictures"], rows, NOTE)


def score_row(row: Facts, pictures: Cell) -> list[Cell]:
    """A row of a score of several labels or of numbers."""
    what, output = NAMES.get(str(row.get("score")), str(row.get("score"))), str(row.get("output"))
    named = what if output == "mean" else f"{what}, {output}"
    return [name(named), number(row.get("value")), between(row.get("low"), row.get("high")), pictures]


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per classifier, with the mean scores of those that predict several labels or numbers.

    runs: (name, measures, status).
    """
    means = [mean_scores(facts_of(measures) or {}) for _, measures, _ in runs]
    scores = {key: what for key, what in NAMES.items() if any(key in own for own in means)}
    rows = []
    for (label, measures, status), own in zip(runs, means, strict=True):
        facts = facts_of(measures) or {}
        cells = [number(facts.get("accuracy")), between(facts.get("low"), facts.get("high"))]
        for row in (own.get(key) or {} for key in scores):
            cells += [number(row.get("value")), between(row.get("low"), row.get("high"))]
        losses = [number(facts.get("flow_matching")), number(facts.get("flow_matching_before"))]
        spent = time(cost_of(measures, status).get("seconds"))
        rows.append([name(label), what_is_read(facts), count(facts.get("pictures")), *cells, *losses, spent])
    columns = [column for what in ("Accuracy", *scores.values()) for column in (what, "95 % interval")]
    return Table("Side by side", ["Run", "Reads", "Labels", *columns, "Flow's loss", "Before", "Time"], rows, NOTE)


def mean_scores(facts: Facts) -> dict[str, Facts]:
    """{score: its row of the mean over several labels or numbers}."""
    rows = [row for row in facts.get("scores") or [] if isinstance(row, Mapping)]
    return {str(row.get("score")): row for row in rows if row.get("output") == "mean"}


# ---- several runs --------------------------------------------------------------------------------------------------


def choices_of(run: Run) -> dict[str, Any]:
    """The settings by dotted name, with flow and data; unset ones as resolved by the run."""
    facts, settings = facts_of(run.measures) or {}, dotted(run.recipe.get("settings") or {})
    places = {key.rpartition(".")[2]: key for key in settings}
    origin = {"flow": (run.recipe.get("model") or {}).get("weights")}
    origin["data"] = (run.recipe.get("data") or {}).get("source")
    measured = {places.get(key, key): facts[fact] for key, fact in MEASURED.items() if is_number(facts.get(fact))}
    return {**settings, **measured, **origin}


def charts_of(runs: Sequence[Run], beside: Sequence[Run]) -> list[Chart]:
    """Accuracy and loss over the one numeric setting in which the runs differ, else bars."""
    points = []
    for run in runs:
        facts = facts_of(run.measures) or {}
        share = {"value": facts.get("accuracy"), "low": facts.get("low"), "high": facts.get("high")}
        losses = {"loss": facts.get("flow_matching"), "before": facts.get("flow_matching_before")}
        shares = {"Accuracy on held-out pictures": share}
        points.append({"label": run.label, "settings": choices_of(run), "shares": shares, **losses})
    return compared.charts(points)
