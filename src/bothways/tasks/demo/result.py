"""What a demo found: the measures of its runs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bothways.tasks.measures import Facts, Measures


class Demo(BaseModel):
    """drawn: the measures of each recipe. source: where the ten pictures are from; round_trip: how far from themselves
    they end; named_right: how many of them the flow classifier calls by their class. tested: its scores on test
    pictures, None without data; stated: those of its card.
    """

    model_config = ConfigDict(extra="forbid")

    drawn: dict[str, dict[str, Any]]
    source: str
    round_trip: dict[str, Any]
    named_right: int
    tested: dict[str, Any] | None
    stated: dict[str, Any]


class TenFacts(Facts):
    """The walk of the ten pictures."""

    strips: list[str] = Field([])
    strip_depths: list[float] = Field([])


class TenMeasures(Measures):
    """measures.json of the ten pictures that are walked."""

    flow: TenFacts
