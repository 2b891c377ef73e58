"""The numbers of the runs of a sweep, and their means over seeds with intervals."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bothways.configs import Config
from bothways.numerics.intervals import mean_interval, share_interval

SEED = "seed"
SEEDS, OWN = "seeds", "pictures"  # what an interval is over


def headlines_of(kind: type[Config], measures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{title: {"value", "low", "high"}} of the measures of a run, as its Config names them; those that it lacks not."""
    found = {}
    for title, (place, *names) in kind.headlines.items():
        table = place.rpartition(".")[0]
        value, *ends = [_number(measures, one) for one in (place, *(f"{table}.{name}" for name in names))]
        if value is not None:
            low, high = ends if len(ends) == 2 and None not in ends else (None, None)
            found[title] = {"value": value, "low": low, "high": high}
    return found


def groups_of(rows: Sequence[Mapping[str, Any]], shares: Collection[str] = ()) -> list[dict[str, Any]]:
    """The complete runs that differ in the seed alone: {"settings", "n", "over", "numbers"} of each group.

    The mean over the runs of a group has Student's 95 % interval, of ``shares`` on the logit scale, so that it stays in
    [0, 1]. A single run has its own, over pictures; so have shares that are equal in all runs, which show no spread.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == "complete":
            groups.setdefault(repr(_without_seed(row["settings"])), []).append(row)
    return [_group(own, shares) for own in groups.values()]


def _group(rows: Sequence[Mapping[str, Any]], shares: Collection[str]) -> dict[str, Any]:
    titles = dict.fromkeys(title for row in rows for title in row["numbers"])
    numbers: dict[str, Any] = {}
    for title in titles:
        several = [row["numbers"][title] for row in rows if title in row["numbers"]]
        if len(several) == 1:
            numbers[title] = several[0]
            continue
        over_seeds = share_interval if title in shares else mean_interval
        value, *ends = over_seeds([one["value"] for one in several])
        if not all(map(math.isfinite, ends)):  # equal shares: that over pictures, of one run
            ends = [several[0]["low"], several[0]["high"]]
        numbers[title] = {"value": value, "low": ends[0], "high": ends[1]}
    over = f"{len(rows)} {SEEDS}" if len(rows) > 1 else OWN
    return {"settings": _without_seed(rows[0]["settings"]), "n": len(rows), "over": over, "numbers": numbers}


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {place: value for place, value in settings.items() if place.rpartition(".")[2] != SEED}


def _number(measures: Any, place: str) -> float | None:
    for part in place.split("."):
        if isinstance(measures, Sequence):  # rows of scores, of which that over all outputs is meant
            rows = [row for row in measures if isinstance(row, Mapping) and row.get("output") == "mean"]
            measures = next((row for row in rows if row.get("score") == part), None)
        else:
            measures = measures.get(part) if isinstance(measures, Mapping) else None
    usable = isinstance(measures, int | float) and not isinstance(measures, bool) and math.isfinite(measures)
    return float(measures) if usable else None


def written(value: Any) -> str:
    """A value of a setting in words."""
    return f"{value:g}" if isinstance(value, float) else "unset" if value is None else str(value)
