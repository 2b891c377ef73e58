"""The content of scorecard.json: a row per quantity and a row per recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from bothways.brief import Brief

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
