"""The content of scorecard.json: a row per quantity and a row per recipe."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bothways.brief import Brief
from bothways.runs.schema import Seconds
from bothways.tasks.measures import Count, Facts
from bothways.tasks.pictures import JudgeFacts

Row = dict[str, Any]


class Scorecard(Brief, BaseModel):
    """The scorecard of a model, as plain numbers, strings, lists and tables.

    data: {"address", "scored", "pictures", "spread"}. drawings: {"n", "seed"} of each recipe.
    quantities: {"name", "control", "spearman", "auroc": {condition: ...}, "cosine": {noise level: ...}, "seconds"}
    each, every estimate as [value, low, high]; "beside": the row that is its own control, if it is not the last.
    step: {"loss", "cosine", "chance"} each: cos(-theta, sum of the loss gradients), the DSF's eq. 9 to eq. 10.
    pictures: {"name", "start", "moved_by", "n", "judges", "images", "seconds", "sheet", "moved"} each.
    Rows that the model does not support are {"name", "absent": reason}.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Row
    data: Row
    settings: Row
    drawings: Row
    versions: Row
    quantities: list[Row]
    pictures: list[Row] = []
    step: list[Row] = []

    def as_dict(self) -> dict[str, Any]:
        """The content of scorecard.json."""
        return self.model_dump()


# ---- scorecard.json, as it is read ---------------------------------------------------------------------------------

Estimate = Annotated[list[float | None], Field(min_length=3, max_length=3)]


class Quantity(Facts):
    """A row of a quantity."""

    name: str
    control: bool = False
    beside: str | None = None
    spearman: Estimate | None = None
    auroc: dict[str, Estimate | None] | None = None
    cosine: dict[str, Estimate | None] | None = None
    seconds: Seconds | None = None
    absent: str = ""


class Step(Facts):
    """A row of a loss. cosine: its value is known."""

    loss: str
    cosine: Annotated[tuple[float, float | None, float | None], Field(strict=False)]
    chance: float | None


class Attempt(Facts):
    """A row of a recipe. sheet: a file of the run folder."""

    name: str
    start: str = ""
    moved_by: str = ""
    n: Count = 0
    judges: list[JudgeFacts] = Field([])
    seconds: Seconds | None = None
    sheet: str = ""
    absent: str = ""


class ScoredModel(Facts):
    """The model."""

    name: str


class ScoredData(Facts):
    """The real pictures."""

    pictures: Count


class ScorecardFile(Facts):
    """scorecard.json."""

    model: ScoredModel
    data: ScoredData
    settings: Row = Field({})
    drawings: Row = Field({})
    versions: Row = Field({})
    quantities: list[Quantity]
    pictures: list[Attempt] = Field([])
    step: list[Step] = Field([])
