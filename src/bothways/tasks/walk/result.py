"""What ``walk`` gives back: the pictures of both ways, and measures["walk"]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bothways.brief import Brief
from bothways.reading import Checked
from bothways.runs import to_png
from bothways.tasks.measures import Measures

WAYS = ("there", "back")
Call = Annotated[tuple[str, float], Field(strict=False)]
Calls = list[list[Call]]  # of each depth: (class, probability), the most probable first


class Near(Checked):
    """One of the nearest pictures. file: of the run folder. distance: root of the mean squared difference."""

    file: str
    distance: float


class WalkFacts(BaseModel):
    """measures["walk"]. lost: the root of the mean squared difference of the picture and what came back.

    nearest: at each depth, the nearest first. called_there, called_back: of a classifier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    depths: list[float]
    lost: float
    nearest: list[list[Near]]
    called_there: Calls | None = None
    called_back: Calls | None = None


class WalkMeasures(Measures):
    """measures.json of a walk."""

    walk: WalkFacts


class Walked(Brief, WalkFacts):
    """A picture on its way from depth 0 to noise, and back.

    there, back: (K,3,H,W) in [0,1], each from the picture to noise, at ``depths``. measures: what measures.json holds.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    there: Tensor = Field(repr=False)
    back: Tensor = Field(repr=False)
    measures: dict[str, Any] = Field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, there: Tensor, back: Tensor, measures: Mapping[str, Any]) -> Walked:
        """The validated result of the pictures and the measures of a run."""
        return cls(there=there, back=back, **measures["walk"], measures=dict(measures))

    def _repr_png_(self) -> bytes:
        """The way to noise above, the way back below."""
        rows = [torch.cat(list(way), 2) for way in (self.there, self.back)]
        return to_png(torch.cat(rows, 1).repeat_interleave(2, 1).repeat_interleave(2, 2))
