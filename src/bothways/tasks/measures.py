"""What every measures.json holds, and the parts of several."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from bothways.reading import Checked
from bothways.runs.schema import Seconds

# JSON has no NaN: a number that is not finite is null in the file.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
Count = Annotated[int, Field(ge=0, le=2**63)]
Measured = float | None  # a number that may not be known
Interval = Annotated[list[float | None], Field(min_length=2, max_length=2)]
Plain = str | bool | int | float | None
Row = dict[str, Plain]  # whose readers look at what each value is
Skipped = dict[str, str]  # {unreadable picture: reason}


class Facts(Checked):
    """A part of measures.json, which may hold more than is named here."""


# ---- what a checkpoint says (state/state.json) ---------------------------------------------------------------------


class DoneParts(Checked):
    """done: {part: what was measured}. skipped: {unreadable picture: reason}."""

    done: dict[str, dict[str, Any]]
    skipped: Skipped = Field({})


class DoneRows(Checked):
    """The rows of the probes."""

    rows: list[Row]


class DoneSteps(Checked):
    """The step that a batch of pictures has reached."""

    pictures: list[int]
    step: Count


# ---- measures.json -------------------------------------------------------------------------------------------------


class Measures(Checked):
    """measures.json of a run. citations: BibTeX of the papers behind it. cost: {"seconds", "peak_mb", "stages"...}.

    notes: what the run did in place of what it lacked the means for, a line each.
    """

    model_config = ConfigDict(extra="forbid")

    citations: list[str]
    cost: dict[str, Seconds | dict[str, Seconds]]
    notes: list[str] = Field([])
