"""The schema of measures["curves"]: the accuracy curves of a flow classifier."""

from __future__ import annotations

from bothways.brief import Brief
from bothways.tasks.evaluate.result import Share, Source
from bothways.tasks.measures import Count, Facts, Measured, Measures, Skipped


class Point(Share):
    """A point of a curve: its setting, the network calls per picture, and the accuracy with its interval.

    "depth" and "activation_depth" are present if the classifier reads at them; "offset" on the curve over depth.
    """

    condition: str
    steps: Count | None
    depth: Measured = None
    activation_depth: Measured = None
    offset: Measured = None
    calls: float
    trained: bool
    n: Count
    nll: float


class Curves(Brief, Facts):
    """The curves of a classifier.

    kind: features that the head reads. solver: of the walk of the points, null without a walk. trained_solver: that of
    the trained point, if another was chosen. steps: points over the number of steps, empty without a walk and for a
    solver that chooses its own. depth: points over min(1, depth (1 + offset)). skipped: {unreadable picture: reason}.
    """

    model: str
    data: Source
    kind: str
    solver: str | None
    trained_solver: str | None = None
    trained: Point
    steps: list[Point]
    depth: list[Point]
    skipped: Skipped


class CurvesMeasures(Measures):
    """measures.json of the curves of a classifier."""

    curves: Curves
