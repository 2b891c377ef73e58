"""The result of ``predict``: a ``Prediction`` per picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A predicted class: its name (or number, if the model has no names), number and probability."""

    name: str
    number: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The classes of a picture, most probable first; none, with an error, if it cannot be read."""

    image: str
    answers: tuple[Answer, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        classes = "; ".join(f"{answer.name} {answer.probability:.1%}" for answer in self.answers)
        return f"{self.image}: {classes or self.error}"
