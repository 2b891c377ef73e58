"""What ``predict`` gives back: a ``Prediction`` a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One class: its name (its number where the model has no names), its number, and its probability."""

    name: str
    number: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The classes of a picture, the most probable first; none, and why, for one that cannot be read."""

    image: str
    answers: tuple[Answer, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        classes = "; ".join(f"{answer.name} {answer.probability:.1%}" for answer in self.answers)
        return f"{self.image}: {classes or self.error}"
