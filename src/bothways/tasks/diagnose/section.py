"""The report section of ``diagnose``: measures["flow"], every part of which may be missing.

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
from bothways.tasks.diagnose.result import DiagnoseMeasures

__all__ = ["comparison_table", "facts_of", "schema", "section", "sentence_of", "work"]

schema = DiagnoseMeasures

work = "measuring"
TABLE_ROWS = 12  # maximum rows of the table of a curve
PLAIN = ("depth", "steps")  # settings, shown without rounding to significant digits
MEASURED = ("straightness", "round_trip", "gain", "information", "swiss_roll", "strips")


def facts_of(measures: Facts) -> Facts | None:
    """The measures of a flow; None for a run without them."""
    facts = measures.get("flow")
    return facts if isinstance(facts, Mapping) and any(key in facts for key in MEASURED) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run without measures of a flow. strips: files of the run folder."""
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
    """The cell of a depth or number of steps: 0.25 -> 0.25, 1.0 -> 1."""
    return Cell(f"{value:.3g}", value, kind="number") if is_number(value) else Cell(MISSING, kind="missing")


def numbers_table(facts: Facts) -> Table:
    """The table of the scalar measures."""
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
        "Straightness: the mean squared difference between the velocity of a path and that of a straight line, 0 for "
        "paths that one Euler step follows exactly."
    )
    return Table("The flow in numbers", ["", "Value", "95 % interval", "Pictures", "Measured by"], rows, note)


def _depth_table(title: str, rows: Sequence[Facts], columns: Mapping[str, str], ends: str = "") -> Table:
    """A row per depth. columns: {key: title}, the depth first; ends: the key followed by its interval."""
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
    """A row per flow. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        straight = facts.get("straightness") or {}
        back = max(facts.get("round_trip") or [{}], key=lambda row: (row.get("depth") or 0, row.get("steps") or 0))
        cells = [number(straight.get("per_dim")), number(back.get("rms"))]
        rows.append([name(label), *cells, time(cost_of(measures, status).get("seconds"))])
    note = (
        "Lower is better. Round trip: the rms error, for values in [0, 1], of pictures walked to the greatest measured "
        "depth and back, in the most steps."
    )
    return Table("Side by side", ["Run", "Straightness per dimension", "Round trip", "Time"], rows, note)


# ---- the parts -----------------------------------------------------------------------------------------------------


def _straightness(facts: Facts) -> Part | None:
    chart = charts.profile(facts.get("straightness") or {})
    note = "Where the paths from noise to pictures bend."
    return Part("Straightness", note, [chart]) if chart is not None else None


def _round_trip(facts: Facts) -> Part | None:
    rows = facts.get("round_trip") or []
    chart = charts.round_trip(rows)
    if chart is None:
        return None
    shown = [chart] if len(rows) > 1 else []  # a point is no curve
    columns = {"depth": "Depth", "steps": "Steps each way", "rms": "rms difference", "largest": "Largest"}
    note = "The error of pictures walked towards noise to a depth and back, for values in [0, 1]."
    return Part("Round trip", note, shown, _depth_table("Round trip", rows, columns))


def _gain(facts: Facts) -> Part | None:
    rows = facts.get("gain") or []
    chart = charts.gain(rows)
    if chart is None:
        return None
    note = (
        "The factor by which a small change of the picture grows up to a depth, as the rms over directions. A large "
        "gain amplifies noise on the picture."
    )
    table = _depth_table("Gain by depth", rows, {"depth": "Depth", "gain": "Gain"}, ends="gain")
    return Part("Gain", note, [chart], table)


def _information(facts: Facts) -> Part | None:
    rows = facts.get("information") or []
    chart = charts.information(rows)
    if chart is None:
        return None
    columns = {"depth": "Depth", "snr": "Signal to noise", "mmse": "Denoiser's error", "nats_per_dim": "Information"}
    note = (
        "An upper bound on the mutual information of the picture and the noisy picture at a depth, in nats per "
        "dimension: half the integral of the flow's denoising error over the signal-to-noise ratio. It is tight for a "
        "perfect flow. It is not the indicator of the PRG paper, which bothways likelihood gives."
    )
    kept = rows[:: max(1, -(-len(rows) // TABLE_ROWS))]
    table = _depth_table("Information by depth", kept, columns, ends="nats_per_dim")
    return Part("Bound on mutual information", note, [chart], table)


def _swiss_roll(facts: Facts) -> Part | None:
    chart = charts.swiss_roll(facts.get("swiss_roll") or {})
    note = "Points coloured by their position on the roll, and their paths to noise."
    return Part("A Swiss roll", note, [chart]) if chart is not None else None
