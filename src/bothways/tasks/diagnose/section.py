"""What a flow does to pictures, as the page shows it: measures["flow"], every part of which may be missing.

    "straightness": {"total", "low", "high", "per_dim", "dims", "n", "solver", "steps", "times": [K], "profile": [K]}
    "round_trip":   [{"depth", "steps", "rms", "largest", "n", "solver"}]
    "gain":         [{"depth", "gain", "low", "high", "n", "solver", "steps"}]
    "information":  [{"depth", "snr", "mmse", "nats_per_dim", "low", "high", "n"}]
    "swiss_roll":   {"points": [[x, y]], "paths": [[[x, y] of each depth]], "depths": [K], "angles": [n]}
    "strips":       [files of the run folder, such as "images/strip-0000.png"], each a row of one picture's states
    "strip_depths": [the depth of each state of a row]

low, high: the ends of a 95 % interval over pictures, null where there is none. profile: per dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.axes import is_number
from bothways.report.parts import Facts, Part, between, depth_labels, walk_cell
from bothways.report.sections import measured as sentence_of
from bothways.report.tables import MISSING, Cell, Table, cost_of, count, name, number, time
from bothways.tasks.diagnose import charts

__all__ = ["comparison_table", "facts_of", "section", "sentence_of", "work"]

work = "measuring"
TABLE_ROWS = 12  # of a curve, in its table
PLAIN = ("depth", "steps")  # what was chosen, not measured: written without digits that say nothing
MEASURED = ("straightness", "round_trip", "gain", "information", "swiss_roll", "strips")


def facts_of(measures: Facts) -> Facts | None:
    """What was measured of a flow's walks, or None for a run that measured none."""
    facts = measures.get("flow")
    return facts if isinstance(facts, Mapping) and any(key in facts for key in MEASURED) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """What the template shows; None for a run that measured none. strips: files of the run folder, to be embedded."""
    facts = facts_of(measures)
    if facts is None:
        return None
    found = [_straightness(facts), _round_trip(facts), _gain(facts), _information(facts), _swiss_roll(facts)]
    return {
        "strips": list(facts.get("strips") or []),
        "depths": depth_labels(facts.get("strip_depths") or []),
        "numbers": numbers_table(facts),
        "parts": [part for part in found if part is not None],
    }


# ---- the tables ----------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Cell:
    """A depth, or a number of steps: 0.25 -> 0.25, 1.0 -> 1."""
    return Cell(f"{value:.3g}", value, kind="number") if is_number(value) else Cell(MISSING, kind="missing")


def numbers_table(facts: Facts) -> Table:
    """The numbers by which two flows are compared."""
    rows = []
    if straight := facts.get("straightness"):
        ends = [straight.get(key) for key in ("low", "high")]
        dims = straight.get("dims")
        each = [end / dims if dims and is_number(end) else None for end in ends]
        pictures, how = count(straight.get("n")), walk_cell(straight)
        rows.append([name("Straightness"), number(straight.get("total")), between(*ends), pictures, how])
        rows.append(
            [name("Straightness per dimension"), number(straight.get("per_dim")), between(*each), pictures, how]
        )
    note = (
        "Straightness: the mean squared difference between a path's velocity and its straight line, 0 for paths that "
        "one step could walk."
    )
    return Table("The flow in numbers", ["", "Value", "95 % interval", "Pictures", "Measured by"], rows, note)


def _depth_table(title: str, rows: Sequence[Facts], columns: Mapping[str, str], ends: str = "") -> Table:
    """A row a depth. columns: key -> title, whose first is the depth; ends: after which key the interval stands."""
    cells, titles = [], []
    for key, column in columns.items():
        titles += [column, "95 % interval"] if key == ends else [column]
    for row in rows:
        line: list[Cell] = []
        for key in columns:
            line.append((_plain if key in PLAIN else number)(row.get(key)))
            line += [between(row.get("low"), row.get("high"))] if key == ends else []
        cells.append(line)
    return Table(title, titles, cells)


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """One row a flow. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        straight = facts.get("straightness") or {}
        back = max(facts.get("round_trip") or [{}], key=lambda row: (row.get("depth") or 0, row.get("steps") or 0))
        cells = [number(straight.get("per_dim")), number(back.get("rms"))]
        rows.append([name(label), *cells, time(cost_of(measures, status).get("seconds"))])
    note = (
        "Lower is better in every column. Round trip: the rms difference in [0, 1] of pictures walked to the greatest "
        "depth that was measured and back, in the most steps."
    )
    return Table("Side by side", ["Run", "Straightness per dimension", "Round trip", "Time"], rows, note)


# ---- the parts -----------------------------------------------------------------------------------------------------


def _straightness(facts: Facts) -> Part | None:
    chart = charts.profile(facts.get("straightness") or {})
    note = "Where on the way from noise to the picture its paths bend."
    return Part("Straightness", note, [chart]) if chart is not None else None


def _round_trip(facts: Facts) -> Part | None:
    rows = facts.get("round_trip") or []
    chart = charts.round_trip(rows)
    if chart is None:
        return None
    shown = [chart] if len(rows) > 1 else []  # a point is no curve
    columns = {"depth": "Depth", "steps": "Steps each way", "rms": "rms difference", "largest": "Largest"}
    note = "Pictures walked towards noise to a depth, and back: what they lose, where black to white is 1."
    return Part("There and back", note, shown, _depth_table("Round trip", rows, columns))


def _gain(facts: Facts) -> Part | None:
    rows = facts.get("gain") or []
    chart = charts.gain(rows)
    if chart is None:
        return None
    note = (
        "How many times larger a small change of the picture is at a depth, as the rms over directions. Where it is "
        "large, noise on a picture is enlarged with it."
    )
    table = _depth_table("Gain by depth", rows, {"depth": "Depth", "gain": "Gain"}, ends="gain")
    return Part("How it stretches", note, [chart], table)


def _information(facts: Facts) -> Part | None:
    rows = facts.get("information") or []
    chart = charts.information(rows)
    if chart is None:
        return None
    columns = {"depth": "Depth", "snr": "Signal to noise", "mmse": "Denoiser's error", "nats_per_dim": "Information"}
    note = (
        "What the noisy picture at a depth still tells of the picture, in nats per dimension: half the integral of the "
        "flow's error as a denoiser over the signal-to-noise ratio. The better the flow, the lower the curve, down to "
        "the mutual information."
    )
    kept = rows[:: max(1, -(-len(rows) // TABLE_ROWS))]
    table = _depth_table("Information by depth", kept, columns, ends="nats_per_dim")
    return Part("What the noise leaves", note, [chart], table)


def _swiss_roll(facts: Facts) -> Part | None:
    chart = charts.swiss_roll(facts.get("swiss_roll") or {})
    note = "Points of a plane, coloured by where on the roll they lie, and the ways that the flow takes them to noise."
    return Part("A Swiss roll", note, [chart]) if chart is not None else None
