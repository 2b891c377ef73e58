"""The schema of measures["evaluation"].

Intervals are at 95 %: Wilson's for one condition, over pictures for a mean over conditions. nll is in nats; ece, mce
and the bins use the confidence max_k softmax.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bothways.brief import Brief
from bothways.tasks.measures import Count, Facts, Measured, Measures, Skipped


class Share(Facts):
    """An accuracy with the ends of its interval."""

    value: float
    low: float
    high: float


class ClassShare(Share):
    """The accuracy of a class."""

    name: str = Field(alias="class")
    n: Count


class CorruptionShare(Share):
    """The accuracy of a corruption at a severity, or over all severities, or at a severity over all corruptions."""

    corruption: str = ""
    severity: Count = 0
    in_mean: bool = True
    n: Count = 0


class Bin(Facts):
    """A bin of confidence from low to high; the means are null if it is empty."""

    low: float
    high: float
    n: Count
    confidence: Measured
    accuracy: Measured


class Scores(Facts):
    """Scores on the clean pictures. top5: null for up to 5 classes. confusion: [target, predicted, pictures] each."""

    n: Count
    top1: Share
    top5: Share | None
    nll: float
    ece: float
    mce: float
    bins: list[Bin]
    per_class: list[ClassShare]
    confusion: list[Annotated[tuple[str, str, Count], Field(strict=False)]]


class WalkOf(Facts):
    """The walk of a flow classifier by another solver than its own. steps: null for an adaptive one.

    calls: of the network for a clean picture, as they were counted.
    """

    solver: str
    steps: Count | None
    calls: float


class Corruptions(Facts):
    """A row per corruption and severity, and their means. checked: how the files were compared with the originals.

    mean_without_noise: the mean over the corruptions that are no noise, where some are; ``mean`` is with noise.
    """

    set: str
    checked: str
    address: str
    rows: list[CorruptionShare]
    by_corruption: list[CorruptionShare]
    by_severity: list[CorruptionShare]
    mean: Share
    mean_without_noise: Share | None = None


class Source(Facts):
    """The origin of the pictures, and how their labels were matched to the classes of the model."""

    address: str
    split: str
    matched: Literal["name", "number"]


class Evaluation(Brief, Facts):
    """An evaluation. skipped: {unreadable picture: reason}."""

    model: str
    data: Source
    clean: Scores
    walk: WalkOf | None = None
    corruptions: Corruptions | None = None
    skipped: Skipped


class EvaluationMeasures(Measures):
    """measures.json of an evaluation."""

    evaluation: Evaluation
