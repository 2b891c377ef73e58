"""The result of ``predict``: a ``Prediction`` per picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A predicted class: its name (or number, if the model has no names), number and probability.

    Of several labels each has a probability of its own. Of a model of numbers each has its value, and no probability.
    """

    name: str
    number: int
    probability: float | None
    value: float | None = None

    def __str__(self) -> str:
        return (
            f"{self.name} {self.probability:.1%}" if self.probability is not None else f"{self.name} {self.value:.4g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Its fields, but for one that it does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Prediction:
    """The classes of a picture, most probable first; none, with an error, if it cannot be read."""

    image: str
    answers: tuple[Answer, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "answers": tuple(answer.as_dict() for answer in self.answers)}

    def __str__(self) -> str:
        classes = "; ".join(map(str, self.answers))
        return f"{self.image}: {classes or self.error}"
