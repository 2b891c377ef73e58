"""The tables of a scorecard, for the page and in Markdown.

A quantity points back to the clean picture if its interval of the cosine lies above that of the random direction, and
above that of its own control where it has one, at every noise level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bothways.brief import joined
from bothways.report import tables
from bothways.report.tables import Cell, Table

STILL = 1 / 255  # rms of what moved below which a picture is its start, to the eye and in a file

Row = Mapping[str, Any]
SHOWN_NOISE = ("noise 0.1", "noise 0.5")  # levels of the table; the chart has all


# ---- the numbers ---------------------------------------------------------------------------------------------------


def measured(row: Row, group: str, key: str = "") -> list[float] | None:
    """[value, low, high] of a row; None if not measured."""
    found = row.get(group) or {}
    estimate = found.get(key) if key else found
    return list(estimate) if isinstance(estimate, list) and None not in estimate else None


def keys(rows: Sequence[Row], group: str) -> list[str]:
    """The conditions or noise levels of the rows, in order."""
    return list(dict.fromkeys(key for row in rows for key in row.get(group) or {}))


def control_of(rows: Sequence[Row]) -> Row:
    """The row of the random direction, the last of the controls; {} if there is none."""
    return next((row for row in reversed(rows) if row.get("control")), {})


def pointing(rows: Sequence[Row]) -> list[Row]:
    """The quantities whose interval lies above those of their controls at every noise level."""
    control, levels = control_of(rows), keys(rows, "cosine")
    named = {row["name"]: row for row in rows}

    def above(row: Row, level: str) -> bool:
        own = measured(row, "cosine", level)
        controls = (control, named.get(row.get("beside") or "", {}))
        chance = [found[2] for found in (measured(other, "cosine", level) for other in controls) if found]
        return own is not None and own[1] > max([0.0, *chance])

    return [row for row in rows if levels and not row.get("control") and all(above(row, level) for level in levels)]


def sentence(card: Row) -> str:
    """Summarise a scorecard in two sentences."""
    rows = [row for row in card["quantities"] if not row.get("control")]
    found = pointing(card["quantities"])
    which = f" ({joined([row['name'] for row in found])})" if found else ""
    words = (
        f"Of {len(rows)} label-free quantities, measured on {card['data']['pictures']} real pictures, {len(found)} "
        f"point{'s' if len(found) == 1 else ''} from a noisy picture back to the clean one at every noise level{which}."
    )
    ranked = [(value[0], row["name"]) for row in rows if (value := measured(row, "spearman"))]
    return words + (
        f" The best correlation with the noise level is {max(ranked)[0]:.2f} ({max(ranked)[1]})." if ranked else ""
    )


# ---- the tables ----------------------------------------------------------------------------------------------------


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


def _column(rows: Sequence[Row], digits: int, group: str, key: str = "") -> list[Cell]:
    """A column of estimates with intervals; the highest without the control is marked."""
    found = [measured(row, group, key) for row in rows]
    best = max(
        (round(e[0], digits) for e, row in zip(found, rows, strict=True) if e and not row.get("control")), default=0
    )
    cells = []
    for estimate, row in zip(found, rows, strict=True):
        if estimate is None:
            cells.append(Cell(tables.MISSING, kind="missing"))
            continue
        value, low, high = (_signed(number, digits) for number in estimate)
        marked = round(estimate[0], digits) == best and not row.get("control")
        cells.append(Cell(value, estimate[0], f"{low} to {high}", "best" if marked else "number"))
    return cells


def _table(title: str, rows: Sequence[Row], columns: Mapping[str, list[Cell]], note: str) -> Table:
    names = [tables.name(row["name"], "control" if row.get("control") else "") for row in rows]
    absent = [f"{row['name']}: {row['absent']}" for row in rows if row.get("absent")]
    lines = [list(line) for line in zip(names, *columns.values(), strict=True)]
    return Table(title, ["Quantity", *columns], lines, " ".join([note, *absent]))


def distance_table(rows: Sequence[Row]) -> Table:
    """The table of Spearman and AUROC, a row per quantity."""
    columns = {"Spearman": _column(rows, 2, "spearman")}
    shown = [key for key in keys(rows, "auroc") if not key.startswith("noise") or key in SHOWN_NOISE]
    columns |= {f"AUROC {key}": _column(rows, 2, "auroc", key) for key in shown}
    note = (
        "Spearman: the rank correlation with the noise level, at most 0.99. AUROC: the probability that a corrupted "
        "picture ranks as further from real than a real one; 0.5 is chance. With 95 % intervals over pictures; the "
        "best is marked."
    )
    return _table("Distance from real pictures", rows, columns, note)


def direction_table(rows: Sequence[Row]) -> Table:
    """The table of cosines and time, a row per quantity."""
    columns = {f"noise {key}": _column(rows, 3, "cosine", key) for key in keys(rows, "cosine")}
    columns["Time"] = [tables.time(row.get("seconds")) for row in rows]
    note = (
        "The cosine of the negative gradient at a noisy picture with the direction to the clean one. With a cosine c, "
        "a step has the share c² of its squared length in that direction. Time: of all its "
        "measurements."
    )
    return _table("Direction to the clean picture", rows, columns, note)


def step_table(rows: Sequence[Row]) -> Table:
    """The table of the step from eq. 9 to eq. 10, a row per loss."""
    lines = []
    for row in rows:
        value, low, high = row["cosine"]
        around = "" if low is None else f"{_signed(low, 4)} to {_signed(high, 4)}"
        lines.append([tables.name(row["loss"]), Cell(_signed(value, 4), value, around), tables.number(row["chance"])])
    note = (
        "The score function calls a picture real if its gradient lies near minus the parameters, since the gradients "
        "of all training pictures sum to that where weight decay has come to rest: a cosine of 1. Here, over the real "
        "pictures, with a 95 % interval (jackknife); chance is the standard deviation for a random direction."
    )
    return Table("Parameters against the sum of loss gradients", ["Loss", "Cosine", "Chance"], lines, note)


def picture_table(rows: Sequence[Row]) -> Table:
    """The table of the drawings, a row per recipe and judge."""
    lines = []
    for row in rows:
        for judge in row.get("judges") or [{"judge": "not drawn" if row.get("absent") else tables.MISSING}]:
            remark = tables.GAVE_GRADIENT if judge.get("gave_gradient") else ""
            recognised = tables.percent(judge.get("hit_rate"))
            bounds = tables.interval(judge.get("hit_interval")).text if recognised.kind == "number" else ""
            texts = [Cell(row.get(key) or "", kind="name") for key in ("start", "moved_by")]
            cells = [Cell(recognised.text, recognised.value, bounds, recognised.kind)]
            cells += [tables.percent(judge.get("mean_confidence"))]
            cells += [_beside_real(judge, "frechet"), _kernel(judge), _beside_real(judge, "diversity")]
            judged = tables.name(judge["judge"].removeprefix("bundled:"), remark)
            still = "" if row.get("moved", 1) >= STILL or row["moved_by"] == "nothing" else "did not move: not a result"
            lines.append([tables.name(row["name"], still), *texts, judged, *cells, tables.time(row.get("seconds"))])
    note = (
        "Recognised: the share that a judge predicts as the target class, if there is one. Fréchet (from 50 pictures "
        "on) and kernel distance (with its 95 % interval) from real pictures, lower is nearer, and mean distance "
        "between two pictures, in the features of the judge; below each, that of as many real pictures. A Fréchet "
        "distance of few pictures is biased by their number, and that of real ones is no floor of it: compare by the "
        "kernel distance and its interval. A recipe did not move where its pictures differ from their start by less "
        "than one of 255 levels (rms); its numbers are those of the start."
    )
    absent = [f"{row['name']}: {row['absent']}" for row in rows if row.get("absent")]
    columns = [
        "Recipe",
        "Start",
        "Moved by",
        "Judge",
        "Recognised",
        "Confidence",
        "Fréchet",
        "Kernel",
        "Diversity",
        "Time",
    ]
    return Table("Drawings", columns, lines, " ".join([note, *absent]))


def _beside_real(judge: Row, key: str) -> Cell:
    own, real = tables.number(judge.get(key)), tables.number(judge.get(f"{key}_real"))
    return Cell(own.text, own.value, f"real {real.text}" if real.kind == "number" else "", own.kind)


def _kernel(judge: Row) -> Cell:
    """The kernel distance; below it, its interval and the value of as many real pictures."""
    cell, (low, high) = _beside_real(judge, "kernel"), judge.get("kernel_interval") or (None, None)
    bounds = [] if low is None or high is None else [f"{tables.significant(low)} to {tables.significant(high)}"]
    return replace(cell, remark="; ".join([*bounds, *filter(None, [cell.remark])]))


def _markdown(table: Table) -> str:
    def text(cell: Cell) -> str:
        shown = f"**{cell.text}**" if cell.kind == "best" else cell.text
        return (shown + (f" ({cell.remark})" if cell.remark else "")).replace("|", "\\|")

    head = ["", " | ".join(table.columns), "", "|".join(["---"] * len(table.columns)), ""]
    lines = [f"| {head[1]} |", f"|{head[3]}|", *(f"| {' | '.join(map(text, row))} |" for row in table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines, "", table.note])


def as_markdown(card: Row) -> str:
    """The tables of a scorecard (``Scorecard.as_dict()`` or the parsed JSON) in Markdown, for documentation."""
    rows, pictures = card["quantities"], card.get("pictures") or []
    shown = [distance_table(rows), direction_table(rows)]
    shown += [step_table(card["step"])] if card.get("step") else []
    shown += [picture_table(pictures)] if pictures else []
    return "\n\n".join([sentence(card), *map(_markdown, shown)]) + "\n"
