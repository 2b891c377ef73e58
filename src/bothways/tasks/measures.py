"""What every measures.json holds, and the parts of several."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

# JSON has no NaN: a number that is not finite is null in the file.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


class Facts(BaseModel):
    """A part of measures.json, which may hold more than is named here."""

    model_config = ConfigDict(extra="allow")


class Measures(BaseModel):
    """measures.json of a run. citations: BibTeX of the papers behind it. cost: {"seconds", "peak_mb", "stages"...}.

    notes: what the run did in place of what it lacked the means for, a line each.
    """

    model_config = ConfigDict(extra="forbid")

    citations: list[str]
    cost: dict[str, float | dict[str, float]]
    notes: list[str] = []
