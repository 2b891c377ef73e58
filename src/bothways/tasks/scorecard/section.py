"""The page of a scorecard: tables, two charts and the drawings, in one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bothways.brief import joined
from bothways.reading import read_bytes, reason
from bothways.report.charts import ACCENT, Chart, base_layout, heatmap
from bothways.report.pictures import png_size
from bothways.report.tables import settings_tables
from bothways.report.template import filled, write_page
from bothways.runs import RunFolder
from bothways.runs.files import read_json
from bothways.tasks.scorecard.result import ScorecardFile
from bothways.tasks.scorecard.tables import (
    Row,
    as_markdown,
    control_of,
    direction_table,
    distance_table,
    keys,
    measured,
    picture_table,
    sentence,
    step_table,
)
from bothways.types import UserError

__all__ = ["as_markdown", "write_scorecard"]

FILE, PAGE = "scorecard.json", "scorecard.html"
AGAINST = "200,96,24"  # RGB of an AUROC under 0.5, where corrupted pictures rank as more real
COLOURS = [[0, f"rgba({AGAINST},0.72)"], [0.499, f"rgba({AGAINST},0.02)"], [0.5, f"rgba({ACCENT},0.02)"]]
COLOURS += [[1, f"rgba({ACCENT},0.72)"]]
SHEET_WIDTH = 560  # maximum CSS pixels
NAMED_FROM = 0.05  # cosine from which a curve is labelled
LABEL_GAP = 0.055  # distance of labels in units of the cosine
FACTS = ("model", "data", "settings", "drawings", "versions")


# ---- the charts ----------------------------------------------------------------------------------------------------


def _spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """The heights in ascending order, moved apart to at least ``gap``."""
    places: dict[int, float] = {}
    last = float("-inf")
    for index in sorted(range(len(heights)), key=heights.__getitem__):
        last = places[index] = max(heights[index], last + gap)
    return [places[index] for index in range(len(heights))]


def cosine_chart(rows: Sequence[Row]) -> Chart:
    """The cosine over the noise level: the control as a band, large cosines labelled, the others faint."""
    levels = keys(rows, "cosine")
    x, traces, ends = [float(level) for level in levels], _band(rows, levels), []
    curves = {
        row["name"]: [measured(row, "cosine", level) for level in levels] for row in rows if not row.get("control")
    }
    whole = {name: [e for e in curve if e] for name, curve in curves.items() if None not in curve}
    for name, curve in whole.items():
        named = max(abs(value) for value, _, _ in curve) > NAMED_FROM
        traces.append(_curve(name, x, curve, named))
        ends += [(curve[-1][0], name)] if named else []
    places = _spread_out([end for end, _ in ends], LABEL_GAP)
    notes = [
        {"x": 1.01, "xref": "paper", "y": y, "text": name, "showarrow": False, "xanchor": "left"}
        for y, (_, name) in zip(places, ends, strict=True)
    ]
    axis = {"nticks": 6}
    layout = base_layout(
        380,
        margin={"r": 170 if ends else 12},
        xaxis={**axis, "title": {"text": "noise level"}, "tickvals": x},
        yaxis={**axis, "title": {"text": "cosine with the way back"}},
        annotations=notes,
    )
    words = (
        f"Labelled: quantities that exceed {NAMED_FROM} at some level: {joined([name for _, name in ends])}. "
        f"Faint: the {len(whole) - len(ends)} others. Grey: the interval of the random direction."
    )
    return Chart("Cosine with the way back", {"data": traces, "layout": layout}, words, wide=True)


def _curve(name: str, x: list[float], curve: Sequence[list[float]], named: bool) -> dict[str, Any]:
    colour = f"rgb({ACCENT})"
    line = {"color": colour, "width": 1.8 if named else 1}
    y = [value for value, _, _ in curve]
    trace: dict[str, Any] = {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name}
    trace |= {"line": line, "opacity": 1 if named else 0.4}
    if not named:
        return trace
    reach = {
        "array": [high - value for value, _, high in curve],
        "arrayminus": [value - low for value, low, _ in curve],
    }
    return trace | {"error_y": {**reach, "symmetric": False, "color": colour, "width": 2, "thickness": 1}}


def _band(rows: Sequence[Row], levels: Sequence[str]) -> list[dict[str, Any]]:
    bounds = [measured(control_of(rows), "cosine", level) for level in levels]
    found = [(float(level), b[1], b[2]) for level, b in zip(levels, bounds, strict=True) if b]
    x, low, high = ([part[k] for part in found] for k in range(3))
    grey = {"fillcolor": "rgba(128,128,128,0.35)", "line": {"width": 0}, "hoverinfo": "skip"}
    shape = {"type": "scatter", "mode": "lines", "x": [*x, *x[::-1]], "y": [*high, *low[::-1]], "fill": "toself"}
    return [{**shape, **grey}] if found else []


def auroc_chart(rows: Sequence[Row]) -> Chart:
    """A heatmap of quantities by corruption; 0.5 is blank, with one colour above and another below."""
    names, conditions = [row["name"] for row in rows], keys(rows, "auroc")
    grid = [[measured(row, "auroc", key) for key in conditions] for row in rows]
    values = [[e and e[0] for e in line] for line in grid]
    told = {
        "text": [[f"{e[0]:.2f}" if e else "" for e in line] for line in grid],
        "customdata": [[f"{e[1]:.2f} to {e[2]:.2f}" if e else "" for e in line] for line in grid],
    }
    hover = "%{y}<br>%{x}: %{text} (%{customdata})<extra></extra>"
    figure = heatmap(conditions, names, values, hover, **told, colorscale=COLOURS, zmax=1)
    figure["layout"]["height"] = 70 + 27 * len(names)
    across = figure["layout"]["xaxis"]
    across["side"] = "top"
    del across["tickangle"]  # Plotly slants the labels only if needed
    words = "Green: corrupted pictures rank as further from real. Orange: they rank as more real than real pictures."
    return Chart("AUROC by corruption", figure, words, wide=True)


# ---- the page ------------------------------------------------------------------------------------------------------


def _sheet(folder: Path, row: Row) -> dict[str, Any]:
    """The contact sheet of a recipe, embedded."""
    path = folder / row["sheet"]
    try:
        content = read_bytes(path)
        width, height = png_size(content)
    except (OSError, UserError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: {why}; restore the sheet, or draw again into another --out") from error
    scale = min(1.0, SHEET_WIDTH / width)
    facts = [[key.replace("_", " "), str(row[key])] for key in ("start", "moved_by", "n") if row.get(key)]
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    size = {"width": round(scale * width), "height": round(scale * height)}
    words = f"{row['n']} pictures from {row['start']}, moved by {row['moved_by']}."
    return {"src": source, "title": row["name"], "facts": facts, "words": words, **size}


def page_of(folder: RunFolder) -> str | None:
    """The page of a scorecard; None if it was not measured."""
    return render_scorecard(folder.path) if (folder.path / FILE).is_file() else None


def render_scorecard(folder: Path) -> str:
    """The page of the scorecard in a folder, as HTML. Raises UserError if it or a sheet is missing."""
    card = read_json(folder / FILE, ScorecardFile)
    if not card:
        raise UserError(f"{folder}: holds no {FILE}; type bothways scorecard MODEL --data DATA --out {folder}")
    rows, pictures = card["quantities"], card.get("pictures") or []
    drawn = any(row.get("cosine") for row in rows)
    return filled(
        __package__,
        "scorecard.html.jinja",
        title=card["model"]["name"],
        sentence=sentence(card),
        tables=[distance_table(rows), direction_table(rows), *([step_table(card["step"])] if card.get("step") else [])],
        charts=[cosine_chart(rows), auroc_chart(rows)] if drawn else [],
        pictures=picture_table(pictures) if pictures else None,
        sheets=[_sheet(folder, row) for row in pictures if row.get("sheet")],
        settings=settings_tables([("", {key: card[key] for key in FACTS if key in card})]),
        charted=drawn,
    )


def write_scorecard(folder: str | Path) -> Path:
    """Write ``scorecard.html`` to the folder of a scorecard, and return its path."""
    page = Path(folder) / PAGE
    write_page(page, render_scorecard(Path(folder)))
    return page
