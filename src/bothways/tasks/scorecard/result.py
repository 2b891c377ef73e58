"""What scorecard.json holds: the facts of a scorecard, a row a quantity and a row a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

Row = dict[str, Any]


class Scorecard(BaseModel):
    """What was measured of one model: plain numbers, strings, lists and tables.

    data: {"address", "scored", "pictures", "spread"}. drawings: {"n", "seed"} of each recipe.
    quantities: {"name", "control", "spearman", "auroc": {condition: ...}, "cosine": {noise level: ...}, "seconds"}
    each, every estimate as [value, low, high].
    pictures: {"name", "start", "moved_by", "n", "judges", "images", "seconds", "sheet"} each.
    What the model cannot do has {"name", "absent": why} in place of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Row
    data: Row
    settings: Row
    drawings: Row
    versions: Row
    quantities: list[Row]
    pictures: list[Row] = []

    def as_dict(self) -> dict[str, Any]:
        """What scorecard.json holds."""
        return self.model_dump()
