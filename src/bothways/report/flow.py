"""What a run measured of a flow, as the page shows it: measures["flow"], every part of which may be missing.

    "validation_loss", "validation_error" (standard error), "validation_pictures", "training_loss": of a pretraining
    "straightness": {"total", "low", "high", "per_dim", "dims", "n", "solver", "steps", "times": [K], "profile": [K]}
    "likelihood":   {"bits_per_dim", "low", "high", "dims", "n", "solver", "steps", "divergence", "draws", "calls",
                     "bits": [n]}
    "round_trip":   [{"depth", "steps", "rms", "largest", "n", "solver"}]
    "gain":         [{"depth", "gain", "low", "high", "n", "solver", "steps"}]
    "information":  [{"depth", "snr", "mmse", "nats_per_dim", "low", "high", "n"}]
    "swiss_roll":   {"points": [[x, y]], "paths": [[[x, y] of each depth]], "depths": [K], "angles": [n]}
    "strips":       [files of the run folder, such as "images/strip-0000.png"], each a row of one picture's states
    "strip_depths": [the depth of each state of a row]

low, high: the ends of a 95 % interval over pictures, null where there is none. profile: per dimension. These are the
``as_facts`` of what representation/ measures; the files are for whoever measures to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report import flow_charts
from bothways.report.charts import Part
from bothways.report.curves import is_number
from bothways.report.sections import measured
from bothways.report.tables import MISSING, Cell, Table, cost_of, count, name, number, significant, time

TABLE_ROWS = 12  # of a curve, in its table
PLAIN = ("depth", "steps")  # what was chosen, not measured: written without digits that say nothing

Facts = Mapping[str, Any]


work = "measuring"
sentence_of = measured


def facts_of(measures: Facts) -> Facts | None:
    """What was measured of a flow, or None for a run that has none."""
    facts = measures.get("flow")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """What the page shows first; None for a run that measured no flow."""
    facts = facts_of(measures)
    if facts is None:
        return None
    strips = [str(file) for file in facts.get("strips") or []]
    return {"strips": strips, "depths": depth_labels(facts), "numbers": numbers_table(facts), "parts": parts(facts)}


def depth_labels(facts: Facts) -> list[str]:
    """What stands above the states of a row, which may lead there and back."""
    depths = [d for d in facts.get("strip_depths") or [] if isinstance(d, (int, float))]
    names = ["picture" if depth == 0 else "noise" if depth == 1 else f"{depth:g}" for depth in depths]
    return [*names[:-1], "back"] if len(names) > 1 and names[0] == names[-1] else names


# ---- the tables ----------------------------------------------------------------------------------------------------


def between(low: Any, high: Any) -> Cell:
    """2.51–2.63."""
    if not (is_number(low) and is_number(high)):
        return Cell(MISSING, kind="missing")
    return Cell(f"{significant(low)}–{significant(high)}", f"{low} to {high}", kind="number")


def _walk(facts: Facts, remark: str = "") -> Cell:
    steps = facts.get("steps")
    words = [str(facts.get("solver") or ""), f"{steps:,} steps" if steps else ""]
    return name(", ".join(filter(None, words)) or MISSING, remark)


def _plain(value: Any) -> Cell:
    """A depth, or a number of steps: 0.25 -> 0.25, 1.0 -> 1."""
    return Cell(f"{value:.3g}", value, kind="number") if is_number(value) else Cell(MISSING, kind="missing")


def _loss_rows(facts: Facts) -> list[list[Cell]]:
    """What a pretraining measured of itself."""
    held, error = facts.get("validation_loss"), facts.get("validation_error")
    if held is None or error is None:
        return []
    interval = between(held - 1.96 * error, held + 1.96 * error)
    asked = name("one fixed draw")
    rows = [[name("Loss on pictures held out"), number(held), interval, count(facts.get("validation_pictures")), asked]]
    last = [number(facts.get("training_loss")), *[Cell(MISSING, kind="missing")] * 2, name("the last 100 steps")]
    return [*rows, [name("Loss in training"), *last]]


def numbers_table(facts: Facts) -> Table:
    """The numbers by which two flows are compared."""
    rows = _loss_rows(facts)
    if bits := facts.get("likelihood"):
        how = _walk(bits, f"divergence: {bits['divergence']}" if bits.get("divergence") else "")
        value = [number(bits.get("bits_per_dim")), between(bits.get("low"), bits.get("high"))]
        rows.append([name("Bits per dimension"), *value, count(bits.get("n")), how])
    if straight := facts.get("straightness"):
        ends = [straight.get(key) for key in ("low", "high")]
        dims = straight.get("dims")
        each = [end / dims if dims and is_number(end) else None for end in ends]
        pictures, how = count(straight.get("n")), _walk(straight)
        rows.append([name("Straightness"), number(straight.get("total")), between(*ends), pictures, how])
        rows.append(
            [name("Straightness per dimension"), number(straight.get("per_dim")), between(*each), pictures, how]
        )
    note = (
        "Bits per dimension: what a lossless code by this flow would spend on a value, at most; fewer are better. "
        "Straightness: the mean squared difference between a path's velocity and its straight line, 0 for paths that "
        "one step could walk. Loss: half the squared error of the velocity, summed over channels; what is left of it "
        "when all is learnt is the spread of the paths that cross."
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
    """One row per flow. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        bits, straight = facts.get("likelihood") or {}, facts.get("straightness") or {}
        back = max(facts.get("round_trip") or [{}], key=lambda row: (row.get("depth") or 0, row.get("steps") or 0))
        cells = [number(bits.get("bits_per_dim")), between(bits.get("low"), bits.get("high"))]
        cells += [number(straight.get("per_dim")), number(back.get("rms"))]
        rows.append([name(label), *cells, time(cost_of(measures, status).get("seconds"))])
    note = (
        "Lower is better in every column. Round trip: the rms difference in [0, 1] of pictures walked to the greatest "
        "depth that was measured and back, in the most steps."
    )
    columns = ["Run", "Bits per dimension", "95 % interval", "Straightness per dimension", "Round trip", "Time"]
    return Table("Side by side", columns, rows, note)


# ---- the parts -----------------------------------------------------------------------------------------------------


def parts(facts: Facts) -> list[Part]:
    """Everything that was measured, in the order in which it is read."""
    found = [_first_part(facts), _round_trip(facts), _gain(facts), _information(facts), _swiss_roll(facts)]
    return [part for part in found if part is not None]


def _first_part(facts: Facts) -> Part | None:
    charts = [flow_charts.bits(facts.get("likelihood") or {}), flow_charts.profile(facts.get("straightness") or {})]
    drawn = [chart for chart in charts if chart is not None]
    note = "Which pictures it finds likely, and where on the way from noise to the picture its paths bend."
    return Part("Likelihood and straightness", note, drawn) if drawn else None


def _round_trip(facts: Facts) -> Part | None:
    rows = facts.get("round_trip") or []
    chart = flow_charts.round_trip(rows)
    if chart is None:
        return None
    charts = [chart] if len(rows) > 1 else []  # a point is no curve
    columns = {"depth": "Depth", "steps": "Steps each way", "rms": "rms difference", "largest": "Largest"}
    note = "Pictures walked towards noise to a depth, and back: what they lose, where black to white is 1."
    return Part("There and back", note, charts, _depth_table("Round trip", rows, columns))


def _gain(facts: Facts) -> Part | None:
    rows = facts.get("gain") or []
    chart = flow_charts.gain(rows)
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
    chart = flow_charts.information(rows)
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
    chart = flow_charts.swiss_roll(facts.get("swiss_roll") or {})
    note = "Points of a plane, coloured by where on the roll they lie, and the ways that the flow takes them to noise."
    return Part("A Swiss roll", note, [chart]) if chart is not None else None
