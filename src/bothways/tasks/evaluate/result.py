"""What measures.json holds of an evaluation: measures["evaluation"].

Intervals are of 95 %: Wilson's of one condition, and over pictures of a mean over conditions. nll is in nats; ece, mce
and the bins are of the confidence max_k softmax.
"""

from __future__ import annotations

from typing import Any, Literal

from bothways.tasks.measures import Facts, Measures


class Share(Facts):
    """A share of pictures that are right, with the ends of its interval."""

    value: float
    low: float
    high: float


class Bin(Facts):
    """Pictures whose confidence lies between low and high; the means are null for none."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class Scores(Facts):
    """The clean pictures. top5: null for five classes or fewer. confusion: [wanted, called, pictures] each."""

    n: int
    top1: Share
    top5: Share | None
    nll: float
    ece: float
    mce: float
    bins: list[Bin]
    per_class: list[Share]
    confusion: list[tuple[str, str, int]]


class Corruptions(Facts):
    """A row a corruption and severity, and the means over them. checked: how the files were compared."""

    set: str
    checked: str
    address: str
    rows: list[Share]
    by_corruption: list[Share]
    by_severity: list[Share]
    mean: Share


class Source(Facts):
    """Where the pictures are from, and how their labels were matched to the model's classes."""

    address: str
    split: str
    matched: Literal["name", "number"]


class Evaluation(Facts):
    """skipped: {the name of a picture that cannot be read: why}."""

    model: str
    data: Source
    clean: Scores
    corruptions: Corruptions | None = None
    skipped: dict[str, Any]


class EvaluationMeasures(Measures):
    """measures.json of an evaluation."""

    evaluation: Evaluation
