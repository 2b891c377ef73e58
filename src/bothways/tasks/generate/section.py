"""The report section of the tasks whose pictures are judged: predictions and metrics of each judge.

    measures["judges"]: [{"judge", "gave_gradient", "called", "called_names", "confidence", "hit_rate", "hit_interval",
                          "mean_confidence", "frechet", "frechet_real", "kernel", "kernel_real", "diversity",
                          "diversity_real", "n", "n_real"}]
    measures["images"]: {"spectrum_slope", "spectrum_slope_null", "flip_symmetry", "pixel_std", "collapsed",
                         "spectrum": {"frequency", "power"}, "spectrum_null"}
    measures["sets"]:   {name: the same of a control}, "drawn" for the pictures themselves

    measures["pictures"], ["photographs"]: see judging/origins.py

Any part may be missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bothways.models.class_names import matches
from bothways.report.charts import ACCENT, ASIDE, Chart, base_layout, counted
from bothways.report.parts import Facts, Part, between
from bothways.report.sections import Run
from bothways.report.tables import GAVE_GRADIENT, Cell, Table, cost_of, count, interval, name, number, percent, time
from bothways.tasks.pictures import PictureMeasures, own_measures

schema = PictureMeasures

CYCLES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]  # per pixel, named on the axis of a spectrum
VERDICT = ("Hit-rate", "95 % interval", "Fréchet", "Kernel", "Diversity")
SPECTRUM_NOTE = (
    "The power at each spatial frequency. The null is the output of the method without a model: where the two lines "
    "coincide, the spectrum is due to the method, not to the model."
)
CONFUSION_NOTE = "Rows are target classes, columns the predictions of the judge; a perfect run is diagonal."


def tables_of(measures: Facts) -> list[Table]:
    """The tables of judge metrics and image statistics."""
    found = [judge_table(measures), image_table(measures)]
    return [*found, origin_table(measures)] if measures.get("pictures") else found


def parts_of(run: Run) -> list[Part]:
    """The spectra with their nulls, and the confusion matrix of each judge."""
    spectra = [spectrum(key or "drawn", of.get("images") or {}) for key, of in sets(run.measures).items()]
    confusions = [confusion(judge, run.pictures) for judge in judges(run.measures)]
    drawn = [chart for chart in spectra if chart is not None]
    found = [Part("Spectrum against its null", SPECTRUM_NOTE, drawn)] if drawn else []
    return [*found, Part("Confusion matrices", CONFUSION_NOTE, [chart for chart in confusions if chart is not None])]


def calls_of(measures: Facts, place: int, record: Facts) -> list[dict[str, Any]]:
    """The prediction of each judge for picture ``place``: {"judge", "name", "hit", "confidence", "short"}."""
    calls = []
    for judge in judges(measures):
        names, confidences = verdicts(judge), judge.get("confidence") or []
        if place < len(names):
            sure = percent(confidences[place] if place < len(confidences) else None)
            short = f"{100 * sure.value:.0f} %" if sure.kind == "number" else ""  # as on the contact sheet
            own = {"name": names[place] or "nothing", "hit": is_hit(judge, place, record)}
            calls.append({"judge": str(judge.get("judge", "unnamed")), **own, "confidence": sure.text, "short": short})
    return calls


def legend_of(measures: Facts) -> list[dict[str, Any]]:
    """The judges in the order of ``calls_of``."""
    return [
        {"judge": str(judge.get("judge", "unnamed")), "gave_gradient": bool(judge.get("gave_gradient"))}
        for judge in judges(measures)
    ]


def chances_of(measures: Facts, place: int, record: Facts) -> list[dict[str, Any]]:
    """The probability of a picture's target class by each judge, None where it has none; or of the predicted class."""
    found = []
    for judge in judges(measures):
        of_target = record.get("label") is not None
        shares, names = judge.get("wanted_probability" if of_target else "confidence") or [], verdicts(judge)
        if not of_target and record.get("class"):  # a channel or a prompt is no class
            continue
        share = shares[place] if place < len(shares) else None
        own = "" if of_target else str(names[place] if place < len(names) else "")
        who = {"judge": str(judge.get("judge", "unnamed")), "gave_gradient": bool(judge.get("gave_gradient"))}
        found.append({**who, "share": share, "name": own})
    return found


# ---- the tables ----------------------------------------------------------------------------------------------------


def sets(measures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The measured sets of pictures by name: the drawn ones under "", then any controls."""
    named = {key: value for key, value in (measures.get("sets") or {}).items() if isinstance(value, Mapping)}
    drawn = {**named.pop("drawn", {}), **{key: value for key, value in measures.items() if key != "sets"}}
    return {"": drawn, **named}


def judges(measures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The metrics of each judge on the drawn pictures."""
    return list(sets(measures)[""].get("judges") or [])


def _judge_name(judge: Mapping[str, Any], group: str = "") -> Cell:
    remarks = [group and f"on {group}", GAVE_GRADIENT if judge.get("gave_gradient") else ""]
    return name(judge.get("judge", "unnamed"), ", ".join(filter(None, remarks)))


def judge_table(measures: Mapping[str, Any]) -> Table:
    """A row per judge: its accuracy on the targets, and distances from real pictures in its features."""
    rows = [
        [
            _judge_name(judge, group),
            percent(judge.get("hit_rate")),
            interval(judge.get("hit_interval") if judge.get("n") else None),
            percent(judge.get("mean_confidence")),
            number(judge.get("frechet")),
            number(judge.get("frechet_real")),
            kernel_cell(judge),
            number(judge.get("kernel_real")),
            number(judge.get("diversity")),
            number(judge.get("diversity_real")),
            count(judge.get("n") or None),
            count(judge.get("n_real") or None),
        ]
        for group, measured in sets(measures).items()
        for judge in measured.get("judges") or []
    ]
    columns = ["Judge", "Hit-rate", "95 % interval", "Confidence", "Fréchet", "real vs real", "Kernel", "real vs real"]
    note = (
        "A judge is a classifier that evaluates the finished pictures. Hit-rate: the share that it predicts as the "
        "target class, with Wilson's interval. Fréchet and kernel: distances from real pictures in its features (lower "
        "is nearer; “real vs real”: between two sets of photos; Fréchet from 50 pictures on; below the kernel distance "
        "its 95 % interval over both sets). A Fréchet distance of few pictures is biased by their number, and "
        "that of real ones is no floor of it: compare by the kernel distance. Diversity: the mean distance between two "
        "pictures."
    )
    return Table("Judge metrics", [*columns, "Diversity", "of real", "Pictures", "Real"], rows, note)


def kernel_cell(judge: Mapping[str, Any]) -> Cell:
    """The kernel distance, with its interval below it."""
    bounds = between(*(judge.get("kernel_interval") or (None, None)))
    return replace(number(judge.get("kernel")), remark=bounds.text if bounds.kind == "number" else "")


def image_table(measures: Mapping[str, Any]) -> Table:
    """The table of image statistics that need no judge, those of a user last."""
    keys = ("spectrum_slope", "spectrum_slope_null", "flip_symmetry", "pixel_std")
    found = {group: images for group, measured in sets(measures).items() if (images := measured.get("images"))}
    own = list(dict.fromkeys(key for images in found.values() for key in own_measures(images)))
    rows = [
        [
            name(group or "drawn"),
            *(number(images.get(key)) for key in keys),
            percent(images.get("collapsed")),
            *(number(own_measures(images).get(key)) for key in own),
        ]
        for group, images in found.items()
    ]
    note = (
        "Spectrum slope: the exponent of the power spectrum; its null is that of the method without a model. Flip "
        "symmetry: the similarity of a picture and its mirror image. Collapsed: pictures of nearly one flat colour."
    )
    columns = ["Pictures", "Spectrum slope", "its null", "Flip symmetry", "Pixel std", "Collapsed", *own]
    return Table("Image statistics", columns, rows, note)


def origin_table(measures: Mapping[str, Any]) -> Table:
    """A row per picture: its distance to the nearest photograph, and those that it was drawn between."""
    usual = measures.get("photographs") or {}
    pixels = "pixel_distance" in usual
    rows = []
    for place, of in enumerate(measures["pictures"]):
        between = [f"{percent(of['share']).text} {of['drawn_from'][0]}", of["drawn_from"][1]] if "share" in of else []
        cells = [
            name(of.get("index", place)),
            name(of["photograph"]),
            number(of["feature_distance"]),
            name(" and ".join(between) or "-"),
        ]
        extra = [name(of["photograph_in_pixels"]), number(of["pixel_distance"])] if pixels else []
        rows.append([*cells, *extra])
    last = [name("photographs"), name("each other, median"), number(usual.get("feature_distance")), name("-")]
    rows.append([*last, *([name("-"), number(usual["pixel_distance"])] if pixels else [])])
    note = (
        f"Distance: one minus the cosine of the features, less their mean, to the nearest of {usual.get('number')} "
        "photographs whose features were drawn from; in the last row from a photograph to the nearest other. A picture "
        "much nearer than that repeats what the network sees of one photograph, which a density draws towards. In "
        "pixels: the root mean square difference at 32 pixels."
    )
    columns = ["Picture", "Nearest photograph", "Distance", "Drawn between"]
    return Table("Distance to photographs", [*columns, *(["Nearest in pixels", "RMS"] if pixels else [])], rows, note)


def comparison_table(runs: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> Table:
    """A row per run with the metrics of each judge. runs: (name, measures, status)."""
    known = dict.fromkeys(str(judge.get("judge", "unnamed")) for _, measures, _ in runs for judge in judges(measures))
    rows = []
    for label, measures, status in runs:
        own = {str(judge.get("judge", "unnamed")): judge for judge in judges(measures)}
        verdicts = [cell for judge in known or [""] for cell in _verdict(own.get(judge, {}))]
        rows.append([name(label), *verdicts, time(cost_of(measures, status).get("seconds"))])
    note = (
        "Hit-rate: the share of pictures that a judge predicts as the target class. Fréchet and kernel: distance from "
        "real pictures, lower is nearer; of few pictures compare the kernel distances with their intervals. Diversity: "
        "mean distance between two pictures. Only judges that gave no gradient count."
    )
    shown = [f"{column}, {judge}" if judge else column for judge in known or [""] for column in VERDICT]
    return Table("Side by side", ["Run", *shown, "Time"], rows, note)


def _verdict(judge: Mapping[str, Any]) -> list[Cell]:
    gave = GAVE_GRADIENT if judge.get("gave_gradient") else ""
    share = replace(percent(judge.get("hit_rate")), remark=gave)
    bounds = interval(judge.get("hit_interval") if judge.get("n") else None)
    return [share, bounds, number(judge.get("frechet")), kernel_cell(judge), number(judge.get("diversity"))]


# ---- the charts ----------------------------------------------------------------------------------------------------


def verdicts(judge: Mapping[str, Any]) -> list[str | None]:
    """The predicted class of each picture by name, or by number if the judge has no names."""
    return [
        None if called is None else str(called) for called in judge.get("called_names") or judge.get("called") or []
    ]


def is_hit(judge: Mapping[str, Any], place: int, picture: Mapping[str, Any]) -> bool | None:
    """Whether the judge predicted the class of picture ``place``; None without a class or prediction."""
    called, names = judge.get("called") or [], judge.get("called_names") or []
    label, wanted = picture.get("label"), picture.get("class")
    if label is None:  # a channel or a prompt is no class
        return None
    if wanted is not None and place < len(names) and names[place] is not None:
        return _is_class(names[place], wanted)
    if place < len(called) and called[place] is not None:
        return int(called[place]) == int(label)
    return None


def _is_class(called: Any, wanted: Any) -> bool:
    """Whether a judge's name of a class is that of a target, by the rule of the hit-rate."""
    return bool(matches([str(called)], str(wanted)))


def confusion(judge: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The confusion matrix of target classes (rows) and predictions (columns); None without target classes.

    A prediction of a target has the name of the target, also where the judge calls that class by other synonyms.
    """
    key = "class" if judge.get("called_names") else "label"
    wanted = [None if picture.get("label") is None else picture.get(key) for picture in pictures]
    found, rows = verdicts(judge), list(dict.fromkeys(str(w) for w in wanted if w is not None))
    own = {c: next((w for w in rows if _is_class(c, w)), c) for c in found if c is not None}
    pairs = [(str(w), own[c]) for w, c in zip(wanted, found, strict=False) if w is not None and c is not None]
    if not pairs:
        return None
    return counted(str(judge.get("judge", "unnamed")), Counter(pairs))


def spectrum(title: str, images: Mapping[str, Any]) -> Chart | None:
    """The power spectrum of the pictures and of the null, on logarithmic axes."""
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
        side = "bottom" if y[-1] == max(of["power"][-1] for _, of, _, _ in lines) else "top"  # no overlap
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
    texts = [f"{v:.2f}".replace("-", "−") if isinstance(v, (int, float)) else "not measured" for v in slopes]
    words = f"Slope of the pictures {texts[0]}, of the null {texts[1]}; about −2 for photographs."
    return Chart(title, {"data": traces, "layout": layout}, words)
