"""The report section of ``evaluate``: measures["evaluation"] (result.py), any part of which may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.report import compared
from bothways.report.axes import AXIS, is_number, line_across, whiskers
from bothways.report.charts import ASIDE, MOST_COLUMNS, Chart, base_layout, counted
from bothways.report.parts import Facts, Part
from bothways.report.sections import Run
from bothways.report.tables import MISSING, Cell, Table, cost_of, count, interval, name, number, percent, time
from bothways.tasks.evaluate.result import EvaluationMeasures

schema = EvaluationMeasures

work = "evaluation"
NAMED = 8  # skipped pictures listed on the page


def facts_of(measures: Facts) -> Facts | None:
    """The evaluation of a run; None if there is none."""
    facts = measures.get("evaluation")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run without an evaluation."""
    facts = facts_of(measures)
    if facts is None:
        return None
    found = [_corruptions(facts), _reliability(facts), _confusion(facts)]
    parts = [part for part in found if part is not None]
    return {"strips": [], "depths": [], "numbers": numbers_table(facts), "parts": parts}


def sentence_of(run: Run) -> str:
    """Describe a run: "evaluate tested bundled:cifar10-resnet on 10,000 pictures"."""
    facts = facts_of(run.measures) or {}
    pictures = (facts.get("clean") or {}).get("n")
    about = f" on {pictures:,} pictures" if is_number(pictures) else ""
    rows = (facts.get("corruptions") or {}).get("rows") or []
    corrupted = f", clean and under {len(rows)} corruptions," if rows else ""
    return f"{run.who} tested {facts.get('model') or run.model or 'a model'}{about}{corrupted}"


def charts_of(runs: Sequence[Run], beside: Sequence[Run]) -> list[Chart]:
    """Accuracies over a setting of the classifiers, if the runs that trained them are on the page too."""
    chosen = {run.folder.path.resolve(): run.section.choices_of(run) for run in beside}
    points = []
    for run in runs:
        facts = facts_of(run.measures) or {}
        clean, corrupted = (facts.get("clean") or {}).get("top1"), (facts.get("corruptions") or {}).get("mean")
        shares = {"Accuracy on clean pictures": clean or {}, "Accuracy on corrupted pictures": corrupted or {}}
        settings = chosen.get(Path(run.model).resolve()) or {}
        points.append({"label": run.label, "settings": settings, "shares": shares})
    return compared.charts(points)


def _bounds(share: Facts) -> Cell:
    return interval([share.get("low"), share.get("high")])


# ---- the tables ----------------------------------------------------------------------------------------------------


def numbers_table(facts: Facts) -> Table:
    """The table of accuracy and calibration."""
    clean, corrupted = facts.get("clean") or {}, facts.get("corruptions") or {}
    trust = [number(clean.get(key)) for key in ("nll", "ece", "mce")]
    none = [Cell("", kind="missing")] * 3
    rows = []
    if top1 := clean.get("top1"):
        rows.append([name("Clean, top 1"), percent(top1.get("value")), _bounds(top1), count(clean.get("n")), *trust])
    if top5 := clean.get("top5"):
        rows.append([name("Clean, top 5"), percent(top5.get("value")), _bounds(top5), count(clean.get("n")), *none])
    if mean := corrupted.get("mean"):
        label = name("Corrupted, mean", str(corrupted.get("set") or ""))
        rows.append([label, percent(mean.get("value")), _bounds(mean), count(mean.get("n")), *none])
    if apart := corrupted.get("mean_without_noise"):
        label = name("Corrupted, mean without noise")
        rows.append([label, percent(apart.get("value")), _bounds(apart), count(apart.get("n")), *none])
    note = (
        "Calibration error: the difference of confidence and accuracy, as the mean over bins of confidence (ECE) and "
        "in the worst bin (MCE). NLL: the mean of -log p of the true class, in nats. Lower is better for all three. "
        + _walk(facts)
        + _left_out(facts)
    )
    columns = ["", "Accuracy", "95 % interval", "Pictures", "NLL", "Calibration error", "at most"]
    return Table("The classifier in numbers", columns, rows, note.strip())


def _walk(facts: Facts) -> str:
    """The walk by another solver than the classifier's own, and its network calls."""
    walk = facts.get("walk") or {}
    if not walk:
        return ""
    steps = f" in {walk['steps']:,} steps" if walk.get("steps") else ", which takes its own steps"
    return f"Walked by {walk.get('solver')}{steps}: {walk.get('calls', 0):g} network calls for a clean picture. "


def _left_out(facts: Facts) -> str:
    skipped = facts.get("skipped") or {}
    if not skipped:
        return ""
    named = ", ".join(list(skipped)[:NAMED]) + (", ..." if len(skipped) > NAMED else "")
    return f"Skipped unreadable pictures: {len(skipped)} ({named})."


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per classifier. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        clean, mean = facts.get("clean") or {}, (facts.get("corruptions") or {}).get("mean") or {}
        top1 = clean.get("top1") or {}
        shares = [percent(top1.get("value")), _bounds(top1), percent(mean.get("value")), _bounds(mean)]
        numbers = [number(clean.get("ece")), number(clean.get("nll")), time(cost_of(measures, status).get("seconds"))]
        rows.append([name(label), *shares, *numbers])
    note = "Corrupted: the mean over all corruptions and severities; comparable only where the set is the same."
    columns = ["Run", "Clean", "95 % interval", "Corrupted", "95 % interval", "Calibration error", "NLL", "Time"]
    return Table("Side by side", columns, rows, note)


def corruption_table(corrupted: Facts) -> Table:
    """A row per corruption: its mean with the interval, and its severities."""
    rows = [row for row in corrupted.get("rows") or [] if is_number(row.get("value"))]
    levels = sorted({row["severity"] for row in rows})
    by = {(row["corruption"], row["severity"]): row["value"] for row in rows}
    means = corrupted.get("by_corruption") or []
    lines = [
        [
            name(m.get("corruption"), "" if m.get("in_mean", True) else "not in the mean"),
            percent(m.get("value")),
            _bounds(m),
        ]
        + [percent(by.get((m.get("corruption"), level))) for level in levels]
        for m in means
    ]
    if whole := corrupted.get("mean"):
        each = {row.get("severity"): row.get("value") for row in corrupted.get("by_severity") or []}
        lines.append(
            [name("all"), percent(whole.get("value")), _bounds(whole), *(percent(each.get(k)) for k in levels)]
        )
    columns = ["Corruption", "Mean", "95 % interval", *map(str, levels)]
    return Table(
        "Accuracy by corruption and severity", columns, lines, "1 to 5: severity. Intervals are over pictures."
    )


# ---- the parts -----------------------------------------------------------------------------------------------------


def _corruptions(facts: Facts) -> Part | None:
    corrupted = facts.get("corruptions") or {}
    rows = [row for row in corrupted.get("by_corruption") or [] if is_number(row.get("value"))]
    if not rows:
        return None
    note = f"The set: {corrupted.get('set') or MISSING}; {corrupted.get('checked') or 'its files were not compared'}."
    chart = _bars(rows, ((facts.get("clean") or {}).get("top1") or {}).get("value"))
    return Part("Corrupted pictures", note, [chart], corruption_table(corrupted))


def _bars(rows: Sequence[Facts], clean: Any) -> Chart:
    x, y = [str(row.get("corruption")) for row in rows], [100 * row["value"] for row in rows]
    bars = {
        "type": "bar",
        "x": x,
        "y": y,
        "error_y": whiskers(rows),
        "hovertemplate": "%{x}<br>%{y:.1f} %<extra></extra>",
    }
    layout = base_layout(
        300,
        xaxis={**AXIS, "type": "category", "nticks": len(x), "tickangle": -35},
        yaxis={**AXIS, "title": {"text": "accuracy, %"}, "range": [0, 100]},
        bargap=0.35,
    )
    words = f"Worst under {x[y.index(min(y))]} ({min(y):.1f} %), best under {x[y.index(max(y))]} ({max(y):.1f} %)"
    if is_number(clean):
        layout["shapes"] = [line_across(100 * clean)]
        words += f"; the dotted line is the clean accuracy, {100 * clean:.1f} %"
    words += "; error bars are 95 % intervals."
    return Chart("Accuracy by corruption", {"data": [bars], "layout": layout}, words, wide=len(x) > 8)


def _reliability(facts: Facts) -> Part | None:
    bins = [
        row
        for row in (facts.get("clean") or {}).get("bins") or []
        if all(is_number(row.get(key)) for key in ("low", "high", "n", "confidence", "accuracy"))
    ]
    if not bins:
        return None

    def between(row: Facts) -> Cell:
        return Cell(f"{row['low']:.2f}–{row['high']:.2f}", f"{row['low']} to {row['high']}", kind="number")

    rows = [[between(row), count(row["n"]), number(row["confidence"]), number(row["accuracy"])] for row in bins]
    table = Table("Reliability", ["Bin of confidence", "Pictures", "Mean confidence", "Accuracy"], rows)
    note = "Clean pictures in bins of confidence. For a calibrated classifier accuracy equals confidence."
    return Part("Reliability diagram", note, [_reliability_chart(bins)], table)


def _reliability_chart(bins: Sequence[Facts]) -> Chart:
    even: dict[str, Any] = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}
    even |= {"line": {"color": f"rgb({ASIDE})", "width": 1.2, "dash": "dot"}}
    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [row["confidence"] for row in bins],
        "y": [row["accuracy"] for row in bins],
        "customdata": [row["n"] for row in bins],
        "hovertemplate": "confidence %{x:.3f}<br>accuracy %{y:.3f}<br>%{customdata} pictures<extra></extra>",
    }
    unit = {**AXIS, "range": [0, 1.02]}
    layout = base_layout(
        300,
        xaxis={**unit, "title": {"text": "confidence"}},
        yaxis={**unit, "title": {"text": "accuracy"}},
    )
    pictures, over = (
        sum(row["n"] for row in of) for of in (bins, [b for b in bins if b["confidence"] > b["accuracy"]])
    )
    words = f"{over:,} of {pictures:,} pictures are in overconfident bins, under the dotted line."
    return Chart("Reliability", {"data": [even, curve], "layout": layout}, words)


def _confusion(facts: Facts) -> Part | None:
    clean = facts.get("clean") or {}
    pairs: Counter[tuple[str, str]] = Counter()
    for wanted, called, pictures in clean.get("confusion") or []:
        pairs[str(wanted), str(called)] += pictures
    classes = [row for row in clean.get("per_class") or [] if is_number(row.get("value"))]
    if not pairs:
        return None
    worst = {str(row["class"]) for row in sorted(classes, key=lambda row: row["value"])[:MOST_COLUMNS]}
    whole = len(worst) == len(classes)
    title = "Clean pictures" if whole else f"The {len(worst)} classes of lowest accuracy, clean pictures"
    chart = counted(title, pairs if whole else Counter({p: n for p, n in pairs.items() if p[0] in worst}))
    rows = [[name(row["class"]), percent(row["value"]), _bounds(row), count(row.get("n"))] for row in classes]
    table = Table("Accuracy by class", ["Class", "Accuracy", "95 % interval", "Pictures"], rows)
    note = "Rows are true classes, columns predicted classes; a perfect classifier is diagonal."
    return Part("Accuracy by class", note, [chart], table)
