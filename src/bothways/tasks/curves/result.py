"""What measures.json holds of the curves of a classifier: measures["curves"]."""

from __future__ import annotations

from typing import Any

from bothways.tasks.evaluate.result import Share, Source
from bothways.tasks.measures import Facts, Measures


class Point(Share):
    """Where it stands, how often the network is called for a picture, and the accuracy with its interval.

    "depth" and "activation_depth" only where they are read at; "offset" on the curve over depth.
    """

    condition: str
    steps: int | None
    calls: int
    trained: bool
    n: int
    nll: float


class Curves(Facts):
    """kind: what the head reads. solver: of the walk, null where there is none.

    steps: by the number of steps, none for a classifier that does not walk. depth: by the depth times 1 + offset, at
    most 1. skipped: {the name of a picture that cannot be read: why}.
    """

    model: str
    data: Source
    kind: str
    solver: Any
    trained: Point
    steps: list[Point]
    depth: list[Point]
    skipped: dict[str, Any]


class CurvesMeasures(Measures):
    """measures.json of the curves of a classifier."""

    curves: Curves
