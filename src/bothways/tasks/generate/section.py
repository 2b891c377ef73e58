"""The section of a task whose pictures judges look at: what each called them, and how near they are to real ones.

    measures["judges"]: [{"judge", "gave_gradient", "called", "called_names", "confidence", "hit_rate", "hit_interval",
                          "mean_confidence", "frechet", "frechet_real", "kernel", "kernel_real", "diversity",
                          "diversity_real", "n", "n_real"}]
    measures["images"]: {"spectrum_slope", "spectrum_slope_null", "flip_symmetry", "pixel_std", "collapsed",
                         "spectrum": {"frequency", "power"}, "spectrum_null"}
    measures["sets"]:   {name: the same of a control}, "drawn" for the pictures themselves

Every part may be missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bothways.report.charts import ACCENT, ASIDE, Chart, base_layout, counted
from bothways.report.parts import Facts, Part
from bothways.report.sections import Run
from bothways.report.tables import GAVE_GRADIENT, Cell, Table, cost_of, count, interval, name, number, percent, time

CYCLES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]  # per pixel, named on the axis of a spectrum
VERDICT = ("Hit-rate", "95 % interval", "Fréchet", "Diversity")
SPECTRUM_NOTE = (
    "How strong each fineness of detail is. The null is what the method draws without a model: where the two lines run "
    "together, that fineness tells nothing of the model."
)
CONFUSION_NOTE = (
    "Each row is a wanted class, each column what the judge called those pictures; a perfect run fills the diagonal "
    "alone."
)


def tables_of(measures: Facts) -> list[Table]:
    """What the judges say, and what the pictures are like."""
    return [judge_table(measures), image_table(measures)]


def parts_of(run: Run) -> list[Part]:
    """The spectra against their nulls, and what each judge called each class."""
    spectra = [spectrum(key or "drawn", of.get("images") or {}) for key, of in sets(run.measures).items()]
    confusions = [confusion(judge, run.pictures) for judge in judges(run.measures)]
    drawn = [chart for chart in spectra if chart is not None]
    found = [Part("Spectrum against its null", SPECTRUM_NOTE, drawn)] if drawn else []
    return [*found, Part("Wanted and called", CONFUSION_NOTE, [chart for chart in confusions if chart is not None])]


def calls_of(measures: Facts, place: int, record: Facts) -> list[dict[str, Any]]:
    """What each judge called picture ``place``: {"judge", "name", "hit", "confidence", "short"}."""
    calls = []
    for judge in judges(measures):
        names, confidences = verdicts(judge), judge.get("confidence") or []
        if place < len(names):
            sure = percent(confidences[place] if place < len(confidences) else None)
            short = sure.text.split(".")[0] + " %" if sure.kind == "number" else ""
            told = {"name": names[place] or "nothing", "hit": is_hit(judge, place, record)}
            calls.append({"judge": str(judge.get("judge", "unnamed")), **told, "confidence": sure.text, "short": short})
    return calls


def legend_of(measures: Facts) -> list[dict[str, Any]]:
    """The judges in the order of ``calls_of``."""
    return [
        {"judge": str(judge.get("judge", "unnamed")), "gave_gradient": bool(judge.get("gave_gradient"))}
        for judge in judges(measures)
    ]


# ---- the tables ----------------------------------------------------------------------------------------------------


def sets(measures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The measured sets of pictures by name: the drawn ones under "", then any control beside them."""
    named = {key: value for key, value in (measures.get("sets") or {}).items() if isinstance(value, Mapping)}
    drawn = {**named.pop("drawn", {}), **{key: value for key, value in measures.items() if key != "sets"}}
    return {"": drawn, **named}


def judges(measures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The verdicts on the drawn pictures, one per judge."""
    return list(sets(measures)[""].get("judges") or [])


def _judge_name(judge: Mapping[str, Any], group: str = "") -> Cell:
    remarks = [group and f"on {group}", GAVE_GRADIENT if judge.get("gave_gradient") else ""]
    return name(judge.get("judge", "unnamed"), ", ".join(filter(None, remarks)))


def judge_table(measures: Mapping[str, Any]) -> Table:
    """One row per judge: what it called the pictures, and how near they are to real ones in its features."""
    rows = [
        [
            _judge_name(judge, group),
            percent(judge.get("hit_rate")),
            interval(judge.get("hit_interval") if judge.get("n") else None),
            percent(judge.get("mean_confidence")),
            number(judge.get("frechet")),
            number(judge.get("frechet_real")),
            number(judge.get("kernel")),
            number(judge.get("kernel_real")),
            number(judge.get("diversity")),
            number(judge.get("diversity_real")),
            count(judge.get("n")),
            count(judge.get("n_real")),
        ]
        for group, measured in sets(measures).items()
        for judge in measured.get("judges") or []
    ]
    columns = ["Judge", "Hit-rate", "95 % interval", "Confidence", "Fréchet", "real vs real", "Kernel", "real vs real"]
    note = (
        "A judge is a classifier that looks at the finished pictures; the hit-rate is the share it calls what was "
        "wanted (with its Wilson interval), the Fréchet and kernel distances say how far the pictures lie from real "
        "ones in its features (lower is nearer, and “real vs real” is what two sets of photographs score), and "
        "diversity is the mean distance between two pictures."
    )
    return Table("What the judges say", [*columns, "Diversity", "of real", "Pictures", "Real"], rows, note)


def image_table(measures: Mapping[str, Any]) -> Table:
    """Measures that need no judge."""
    keys = ("spectrum_slope", "spectrum_slope_null", "flip_symmetry", "pixel_std")
    rows = [
        [name(group or "drawn"), *(number(images.get(key)) for key in keys), percent(images.get("collapsed"))]
        for group, measured in sets(measures).items()
        if (images := measured.get("images"))
    ]
    note = (
        "The slope says how fast detail fades from coarse to fine, and its null is the slope the method gives without "
        "a model; flip symmetry is the likeness of a picture to its mirror image, and a collapsed picture is nearly "
        "one flat colour."
    )
    columns = ["Pictures", "Spectrum slope", "its null", "Flip symmetry", "Pixel std", "Collapsed"]
    return Table("What the pictures are like", columns, rows, note)


def comparison_table(runs: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> Table:
    """One row per run, and in it what each judge says. runs: (name, measures, status)."""
    known = dict.fromkeys(str(judge.get("judge", "unnamed")) for _, measures, _ in runs for judge in judges(measures))
    rows = []
    for label, measures, status in runs:
        own = {str(judge.get("judge", "unnamed")): judge for judge in judges(measures)}
        verdicts = [cell for judge in known or [""] for cell in _verdict(own.get(judge, {}))]
        rows.append([name(label), *verdicts, time(cost_of(measures, status).get("seconds"))])
    note = (
        "Hit-rate: the share of pictures a judge calls what was wanted; Fréchet: distance from real pictures, lower is "
        "nearer; diversity: mean distance between two pictures. Only a judge that did not give the gradient counts."
    )
    shown = [f"{said}, {judge}" if judge else said for judge in known or [""] for said in VERDICT]
    return Table("Side by side", ["Run", *shown, "Time"], rows, note)


def _verdict(judge: Mapping[str, Any]) -> list[Cell]:
    gave = GAVE_GRADIENT if judge.get("gave_gradient") else ""
    share = replace(percent(judge.get("hit_rate")), remark=gave)
    bounds = interval(judge.get("hit_interval") if judge.get("n") else None)
    return [share, bounds, number(judge.get("frechet")), number(judge.get("diversity"))]


# ---- the charts ----------------------------------------------------------------------------------------------------


def verdicts(judge: Mapping[str, Any]) -> list[str | None]:
    """What a judge called each picture, by name, or by number where it has no names."""
    return [
        None if called is None else str(called) for called in judge.get("called_names") or judge.get("called") or []
    ]


def is_hit(judge: Mapping[str, Any], place: int, picture: Mapping[str, Any]) -> bool | None:
    """Whether the judge called picture ``place`` what was wanted; None where nothing was wanted or said."""
    called, names = judge.get("called") or [], judge.get("called_names") or []
    label, wanted = picture.get("label"), picture.get("class")
    if wanted is not None and place < len(names) and names[place] is not None:
        return str(names[place]) == str(wanted)
    if label is not None and place < len(called) and called[place] is not None:
        return int(called[place]) == int(label)
    return None


def confusion(judge: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Wanted class (rows) against what the judge called it (columns), or None where no class was wanted."""
    named = bool(judge.get("called_names"))
    wanted = [picture.get("class") if named else picture.get("label") for picture in pictures]
    pairs = [(str(w), c) for w, c in zip(wanted, verdicts(judge), strict=False) if w is not None and c is not None]
    if not pairs:
        return None
    return counted(str(judge.get("judge", "unnamed")), Counter(pairs))


def spectrum(title: str, images: Mapping[str, Any]) -> Chart | None:
    """The power of each ring of frequencies, of the pictures and of the null, both axes by factors of ten."""
    own, null = images.get("spectrum") or {}, images.get("spectrum_null") or {}
    if not own.get("power"):
        return None
    lines = [("null", null, ASIDE, "dot")] if null.get("power") else []
    lines += [("pictures", own, ACCENT, "solid")]
    traces, notes = [], []
    for words, line, colour, dash in lines:
        x, y, look = line["frequency"], line["power"], {"color": f"rgb({colour})", "dash": dash}
        hover = f"{words}<br>%{{x:.3f}} cycles per pixel<br>%{{y:.3g}}<extra></extra>"
        traces.append({"type": "scatter", "mode": "lines", "x": x, "y": y, "line": look, "hovertemplate": hover})
        side = "bottom" if y[-1] == max(of["power"][-1] for _, of, _, _ in lines) else "top"  # so that no two overlap
        end = {"x": math.log10(x[-1]), "y": math.log10(y[-1]), "xanchor": "left", "yanchor": side, "showarrow": False}
        notes.append({**end, "text": words})
    axis = {"type": "log", "exponentformat": "power"}
    ticks = {"tickvals": CYCLES, "ticktext": list(map(str, CYCLES))}
    layout = base_layout(
        260,
        margin={"r": 64},
        xaxis={**axis, **ticks, "title": {"text": "cycles per pixel"}},
        yaxis={**axis, "title": {"text": "power"}, "dtick": 1},
        annotations=notes,
    )
    slopes = [images.get(key) for key in ("spectrum_slope", "spectrum_slope_null")]
    told = [f"{value:.2f}".replace("-", "−") if isinstance(value, (int, float)) else "not measured" for value in slopes]
    words = f"Slope of the pictures {told[0]}, of the null {told[1]}; photographs have about −2."
    return Chart(title, {"data": traces, "layout": layout}, words)
