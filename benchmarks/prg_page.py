"""The rows of prg_controls.py as one page of charts that needs nothing else, and as pictures of its two halves.

    python benchmarks/prg_controls.py --plot runs/prg.html                              the page
    python benchmarks/prg_controls.py --plot runs/prg.html --pictures docs/pictures     and controls.png, choices.png

The pictures are taken by chromium, which must be there. Run it again when there are more rows.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image, ImageChops

from bothways.numerics.intervals import seeds_told, share_interval
from bothways.report.axes import axes_layout, whiskers
from bothways.report.charts import ASIDE, Chart
from bothways.report.compared import losses_over, share_bars, shares_over
from bothways.report.template import packed_plotly, templates

Rows = Sequence[Mapping[str, str]]
Arms = Mapping[str, Mapping[str, Any]]

PAGE = """{% from "parts.html.jinja" import plot %}
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>PRG beside its controls</title>
<style>{{ style }} figcaption { font-size: 1rem }
main > article:first-child { margin: 0; padding: 0; border: 0 }</style></head>
<body class="single"><main>
{% for title, note, charts in halves %}
<article><h2>{{ title }}</h2><p class="note">{{ note }}</p>
<section class="charts"><div class="plots">{% for chart in charts %}{{ plot(chart, title) }}{% endfor %}</div></section>
</article>
{% endfor %}
</main><script type="text/plain" id="plotly">{{ plotly }}</script><script>{{ script }}</script></body></html>"""
PICTURES = ("controls.png", "choices.png")
WIDTH, HEIGHT, COLOURS = 1180, 2600, 256  # of a screenshot, in pixels; of its palette
BASE = {"kind": "walked", "depth": 0.5, "steps": 3, "beta": 1.0, "gradient": "exact", "solver": "euler"}
NAMES = {"depth": "the depth", "steps": "the steps of the walk", "beta": "beta"}
PRETRAINED, UNTRAINED, FROZEN = "10,127,90", "47,111,187", "200,96,24"  # red, green, blue
# "longdash" is one dash of 15 pixels, which on the 30 of a legend looks like half a solid line.
DASHES = {"walked": "solid", "both": "6px,3px", "activations": "dot", "pixels": "dashdot"}
SYMBOLS = {"walked": "circle", "both": "diamond", "activations": "square", "pixels": "x"}
COLOURS_TOLD = (
    "Green: pretrained and trained; blue: not pretrained; orange: the flow frozen; grey: no flow, or one of random "
    "weights. Solid with circles: reads the walk; dotted with squares: activations; dashed with diamonds: both."
)
APART = 0.035  # of a value on the axis, between two arms, so that whiskers do not lie on one another


def reached(rows: Rows, key: str = "accuracy") -> dict[str, float]:
    """The accuracy: of one seed as its row has it, of several their mean and its t interval over seeds, inside [0, 1].

    {"value", "low", "high"}; no ends for one seed of a number whose rows keep no interval; {} where none is kept.
    """
    values = [float(row[key]) for row in rows if row[key]]
    if len(values) > 1:
        return share_interval(values, int(rows[0]["pictures"]))._asdict()
    ends = {end: float(rows[0][end]) for end in ("low", "high")} if values and key == "accuracy" else {}
    return {"value": values[0], **ends} if values else {}


def write_page(file: Path, controls: Rows, choices: Rows, arms: Arms, pictures: Path | None = None) -> None:
    """The page of the rows of both sets, or of the first alone; with ``pictures`` each half as PNG in that folder too.

    arms: what each arm of either set is trained with.
    """
    halves = [controls_half(controls, arms), *([choices_half(choices, arms)] if choices else [])]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(filled(halves), encoding="utf-8")
    for name, half in zip(PICTURES, halves, strict=False) if pictures else ():
        take_picture(filled([half]), pictures / name)


def filled(halves: Sequence[tuple[str, str, list[Chart]]]) -> str:
    return templates().from_string(PAGE).render(halves=halves, plotly=Markup(packed_plotly()))


def take_picture(html: str, out: Path) -> None:
    """A page as chromium shows it, cut to what is on it."""
    with tempfile.TemporaryDirectory() as place:
        page, shot = Path(place) / "page.html", Path(place) / "shot.png"
        page.write_text(html, encoding="utf-8")
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        waits = ["--virtual-time-budget=40000", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        asked = ["chromium", *quiet, *waits, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(asked, check=True, capture_output=True)
        image = Image.open(shot).convert("RGB")
    box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    assert box is not None, "the page is empty"
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = image.crop((max(0, box[0] - 8), max(0, box[1] - 8), box[2] + 8, box[3] + 8))
    kept.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(out, optimize=True)


# ---- the controls --------------------------------------------------------------------------------------------------


def grouped(rows: Rows) -> dict[int, dict[str, list[Mapping[str, str]]]]:
    """{labels: {arm: its rows}}, by the number of labels."""
    found: dict[int, dict[str, list[Mapping[str, str]]]] = {}
    for row in sorted(rows, key=lambda row: int(row["labels"])):
        found.setdefault(int(row["labels"]), {}).setdefault(row["arm"], []).append(row)
    return found


def controls_half(rows: Rows, arms: Arms) -> tuple[str, str, list[Chart]]:
    by_labels = grouped(rows)
    note = (
        "Accuracy on test pictures; 95 % intervals: Wilson's over pictures for one seed, t over seeds for several. "
        "Corrupted: the mean over six corruptions at five severities; of one seed the rows keep no interval, so none "
        "is drawn, and the pictures are others for each number of labels: compare within a chart."
    )
    charts = [over_labels(by_labels, arms)] if len(by_labels) > 1 else []
    for labels, of in by_labels.items():
        charts += over_operations(labels, of, arms)
        shown = [{"label": arm, **share} for arm, own in of.items() if (share := reached(own, "corrupted"))]
        seeds = "whiskers, where there are several seeds: the t interval over seeds"
        if len(shown) > 1:
            shown.sort(key=lambda row: -row["value"])
            many = seeds_told([len(own) for own in of.values()])
            charts.append(share_bars(f"Corrupted test pictures, {labels:,} labels, {many}", shown, seeds))
    return "PRG beside its controls", note, charts


def over_labels(by_labels: Mapping[int, Mapping[str, Rows]], arms: Arms) -> Chart:
    """A curve an arm, from the best down in the legend."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for labels, of in by_labels.items():
        for arm, rows in of.items():
            curves.setdefault(arm, []).append({"labels": labels, **reached(rows)})
    order = sorted(curves, key=lambda arm: -max(row["value"] for row in curves[arm]))
    traces = [
        arm_curve(arm, curves[arm], arms[arm], "labels", 1 + APART * (place - (len(order) - 1) / 2) / 2)
        for place, arm in enumerate(order)
    ]
    ticks = list(by_labels)
    axis = {"tickvals": ticks, "ticktext": [f"{n:,}" for n in ticks]}
    beside = " Points stand a little beside their number of labels, so that the whiskers can be told apart."
    return arms_chart("Accuracy over labels", "labels", axis, traces, beside)


def over_operations(labels: int, of: Mapping[str, Rows], arms: Arms) -> list[Chart]:
    """Each arm as a point over the operations of its training, from the best down in the legend; [] if none counted."""
    points = {arm: [{"at": float(rows[0]["operations"]), **reached(rows)}] for arm, rows in of.items()
              if rows[0].get("operations")}  # fmt: skip
    if len(points) < 2:
        return []
    order = sorted(points, key=lambda arm: -points[arm][0]["value"])
    traces = [arm_curve(arm, points[arm], arms[arm], "at") for arm in order]
    many = seeds_told([len(own) for own in of.values()])
    title = f"Accuracy over operations of the training, {labels:,} labels, {many}"
    axis = {"dtick": 1, "exponentformat": "power"}
    return [arms_chart(title, "operations of the training (without the flow's pretraining)", axis, traces)]


def arms_chart(title: str, over: str, axis: Mapping[str, Any], traces: list[dict[str, Any]], more: str = "") -> Chart:
    """The traces of arms over a logarithmic axis, with their colours told. more: further words below."""
    layout = {**axes_layout(over, "accuracy, %"), "height": 470}
    layout["xaxis"] |= {"type": "log", **axis}
    layout |= {"showlegend": True, "legend": {"x": 1.02, "y": 1, "xanchor": "left"}}
    return Chart(title, {"data": traces, "layout": layout}, COLOURS_TOLD + more, wide=True, coloured=True)


def arm_curve(
    arm: str, rows: Sequence[Mapping[str, Any]], how: Mapping[str, Any], over: str, beside: float = 1.0
) -> dict[str, Any]:
    """The trace of an arm over one of the keys of its rows. beside: a factor of that number."""
    kind, frozen, fresh = how.get("kind", "plain"), how.get("frozen", False), how.get("fresh", False)
    aside = kind in ("pixels", "plain") or (frozen and fresh)
    colour = f"rgb({ASIDE if aside else FROZEN if frozen else UNTRAINED if fresh else PRETRAINED})"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": arm,
        "x": [row[over] * beside for row in rows],
        "y": [100 * row["value"] for row in rows],
        "error_y": whiskers(rows),
        "line": {"color": colour, "width": 1.6, "dash": DASHES.get(kind, "solid")},
        "marker": {"color": colour, "size": 7, "symbol": SYMBOLS.get(kind, "triangle-up")},
        "hovertemplate": f"{arm}<br>%{{y:.1f}} %<extra></extra>",
    }


# ---- the choices ---------------------------------------------------------------------------------------------------


def choices_half(choices: Rows, arms: Arms) -> tuple[str, str, list[Chart]]:
    """Each choice of PRG beside the arm ``prg`` of the same set."""
    charts: list[Chart] = []
    pictures = sorted({int(row["pictures"]) for row in choices})
    for labels, of in grouped(choices).items():
        points = [point_of(rows, arms[arm]) for arm, rows in of.items()]
        for choice, words in NAMES.items():
            rows = [{**point, "at": point[choice]} for point in points if one_choice(point, choice)]
            if len(rows) > 1:
                charts.append(shares_over(f"Accuracy over {words}, {labels:,} labels", rows, choice))
                charts.append(losses_over(f"Flow-matching loss over {words}, {labels:,} labels", rows, choice))
        charts += bars(points, "gradient", labels) + bars(points, "solver", labels)
    note = (
        "PRG with one choice changed: 3 Euler steps to depth 0.5, beta 1 and the exact gradient where nothing else is "
        f"said. {' to '.join(f'{n:,}' for n in pictures)} test pictures; 95 % intervals: Wilson's over pictures for "
        "one seed, t over seeds for several."
    )
    return "One choice at a time", note, charts


def point_of(rows: Rows, how: Mapping[str, Any]) -> dict[str, Any]:
    return {**BASE, **how, **reached(rows), **losses_of(rows)}


def losses_of(rows: Rows) -> dict[str, float]:
    """The mean flow-matching loss after the training, "loss", and "before" it; {} where none is kept."""
    pairs = [(row["flow_matching"], row["flow_matching_before"]) for row in rows]
    if not all(all(pair) for pair in pairs):
        return {}
    after, before = (sum(map(float, values)) / len(rows) for values in zip(*pairs, strict=True))
    return {"loss": after, "before": before}


def one_choice(point: Mapping[str, Any], *choices: str) -> bool:
    """Whether a point has what BASE has in all but these choices."""
    return all(point[key] == value for key, value in BASE.items() if key not in choices)


def bars(points: Sequence[Mapping[str, Any]], choice: str, labels: int) -> list[Chart]:
    """Each value of a choice without an order beside that of BASE in as many steps; [] if only one was trained."""
    others = [point for point in points if point[choice] != BASE[choice] and one_choice(point, choice, "steps")]
    steps = {point["steps"] for point in others}
    same = [point for point in points if point["steps"] in steps and one_choice(point, "steps")]
    shown = [{**point, "label": f"{point[choice]}, {point['steps']} steps"} for point in [*same, *others]]
    return [share_bars(f"Accuracy by {choice}, {labels:,} labels", shown)] if same and others else []
