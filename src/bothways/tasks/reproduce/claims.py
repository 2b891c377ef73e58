"""The verdict on a claim of a paper, from the numbers of runs with several seeds.

    quantity    q_s = m_s,  m_s - r_s  or  m_s / r_s   of seed s; both numbers are of the same seed
    interval    Student's 95 % interval of the mean of q_s; of a quotient, that of the mean logarithm; of a share, on
                the logit scale; none where q_s is the same for all seeds, which show no spread
    value       reproduced where the whole interval lies within  paper +- within,  not where all of it lies outside
    order       reproduced where the whole interval lies above (below) the bound, not where all lies on the other side

Each claim is judged by itself: nothing is corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bothways.numerics.intervals import UNDEFINED, Estimate, all_equal, mean_interval, share_interval

SEEDS_AT_LEAST = 3
REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
NOT_COMPARABLE, NOT_MEASURED = "not comparable", "not measured"
NO_NUMBER = "no number of the paper is known here, and no order"
ENDS = ("value", "accuracy", "bits_per_dim", "nats_per_dim")  # whose table has their interval as "low" and "high"


class Verdict(NamedTuple):
    """verdict: one of the five, or with fewer than three seeds "agrees, one seed". why: a line.

    ours: with its interval. seeds: those whose numbers are there.
    """

    verdict: str
    why: str
    ours: Estimate
    seeds: int


class Bounds(NamedTuple):
    """What is claimed of a quantity: a paper's number and the difference that does not matter, a bound, or nothing."""

    paper: float | None = None
    within: float | None = None
    above: float | None = None
    below: float | None = None


def number_at(measures: Any, place: str) -> float | None:
    """The number at a place of measures, such as "curves/steps/steps=10/value"; None where there is none.

    A part of a list is a row's index, or KEY=VALUE of the first row that has it.
    """
    found = _at(measures, place.split("/"))
    usable = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if usable else None


def interval_at(measures: Any, place: str) -> tuple[float, float] | None:
    """The 95 % interval over pictures that a run gives beside its number, if it gives one."""
    table, _, last = place.rpartition("/")
    beside = _at(measures, table.split("/") if table else [])
    if not isinstance(beside, Mapping):
        return None
    ends: Any = (
        [beside.get("low"), beside.get("high")] if last in ENDS else beside.get(f"{last.split('_')[0]}_interval")
    )
    known = isinstance(ends, Sequence) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    return (float(ends[0]), float(ends[1])) if known else None


def _at(found: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, Sequence) and not isinstance(found, str):
            found = _row(found, part)
        else:
            return None
    return found


def _row(rows: Sequence[Any], part: str) -> Any:
    key, equals, value = part.partition("=")
    if not equals:
        place = int(part) if part.isdecimal() else len(rows)
        return rows[place] if place < len(rows) else None
    return next((row for row in rows if isinstance(row, Mapping) and key in row and _same(row[key], value)), None)


def _same(found: Any, text: str) -> bool:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found) == float(text)
        except ValueError:
            return False
    return str(found) == text


def quantity(values: Sequence[float], how: str) -> Estimate:
    """The mean over seeds with its interval. how: "ratio" for the mean of logarithms, "share" for [0, 1].

    NaN ends where all seeds gave the same number: three equal numbers are no measure of their spread.
    """
    if not values or (how == "ratio" and min(values) <= 0):
        return UNDEFINED
    array = np.array(values, dtype=np.float64)
    if all_equal(array):
        return Estimate(float(array.mean()), math.nan, math.nan)
    if how == "share":
        return share_interval(array)
    return Estimate(*map(math.exp, mean_interval(np.log(array)))) if how == "ratio" else mean_interval(array)


def combined(left: float | None, right: float | None, how: str) -> float | None:
    """The quantity of one seed: left, left - right ("difference") or left / right ("ratio"); None where one lacks."""
    if how in ("mean", "share") or left is None:
        return left
    if right is None or (how == "ratio" and right == 0):
        return None
    return left - right if how == "difference" else left / right


def judged(
    values: Sequence[float | None],
    claimed: Bounds,
    how: str = "mean",
    *,
    unlike: str = "",
    over_pictures: tuple[float, float] | None = None,
) -> Verdict:
    """The verdict on a claim. values: a number a seed, None where it is not measured.

    unlike: why a number of this form cannot be set beside the paper's; "" where it can. over_pictures: the interval of
    a single seed, which is shown and not judged by.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    ours = quantity(known, how)
    if len(known) == 1 and over_pictures is not None:
        ours = Estimate(ours.value, *over_pictures)
    if not known or not math.isfinite(ours.value):
        why = "a quotient that is not above 0 has no mean logarithm" if known else "no run gave this number"
        return Verdict(NOT_MEASURED, why, UNDEFINED, 0)
    if len(known) < len(values):
        lacking = len(values) - len(known)
        return Verdict(NOT_MEASURED, f"{lacking} of {len(values)} seeds gave no number", ours, len(known))
    band = _band(claimed)
    if band is None:
        return Verdict(NOT_COMPARABLE, unlike or NO_NUMBER, ours, len(known))
    if claimed.paper is not None and unlike:
        return Verdict(NOT_COMPARABLE, unlike, ours, len(known))
    if len(known) < SEEDS_AT_LEAST:
        agrees = _inside(ours.value, band, strict=claimed.paper is None)
        count = "one seed" if len(known) == 1 else f"{len(known)} seeds"
        why = f"a verdict needs {SEEDS_AT_LEAST} seeds"
        return Verdict(f"{'agrees' if agrees else 'disagrees'}, {count}", why, ours, len(known))
    return Verdict(*_decided(ours, band, strict=claimed.paper is None), ours, len(known))


def _band(claimed: Bounds) -> tuple[float, float] | None:
    """The numbers that bear the claim out; None where nothing is claimed."""
    if claimed.paper is not None:
        reach = claimed.within or 0.0
        return claimed.paper - reach, claimed.paper + reach
    if claimed.above is None and claimed.below is None:
        return None
    return (
        -math.inf if claimed.above is None else claimed.above,
        math.inf if claimed.below is None else claimed.below,
    )


def _inside(value: float, band: tuple[float, float], *, strict: bool) -> bool:
    """Whether a number bears a claim out; strict: a bound itself does not."""
    return band[0] < value < band[1] if strict else band[0] <= value <= band[1]


def _decided(ours: Estimate, band: tuple[float, float], *, strict: bool) -> tuple[str, str]:
    if math.isnan(ours.low):
        return UNDECIDED, "all seeds gave the same number, which shows no spread to judge by"
    if ours.low > band[1] or ours.high < band[0]:
        side = "above" if ours.low > band[1] else "below"
        return NOT_REPRODUCED, f"the whole interval is {side} what is claimed"
    if _inside(ours.low, band, strict=strict) and _inside(ours.high, band, strict=strict):
        return REPRODUCED, "the whole interval is where the claim has it"
    return UNDECIDED, "the interval holds numbers that bear the claim out and numbers that do not"
