"""Numbers as a reader meets them: every table of the page, and the sentence under it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bothways.runs.files import dotted

MISSING = "not measured"
GAVE_GRADIENT = "gave the gradient: proves nothing"


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, the full value that is copied as CSV, and a remark beside it."""

    text: str
    value: Any = None
    remark: str = ""
    kind: str = ""  # "name", "number", "missing" or "differs": how it is set

    @property
    def csv(self) -> str:
        if self.kind == "missing":
            return ""
        return (self.text if self.value is None else str(self.value)) + (f" ({self.remark})" if self.remark else "")


@dataclass(frozen=True)
class Table:
    """A table of the page. ``columns``: one name per cell of a row; ``note``: what a newcomer needs to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def name(text: Any, remark: str = "") -> Cell:
    return Cell(str(text), None, remark, "name")


def _measured(value: Any, write: Callable[[float], str]) -> Cell:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return Cell(MISSING, kind="missing")
    return Cell(write(value), value, kind="number")


def significant(value: float, digits: int = 3) -> str:
    """0.91234 -> 0.912, 9.1 -> 9.10, 12345.6 -> 12,346, 3e-7 -> 3.00e-07; with a true minus sign."""
    if value == 0:
        return "0"
    if value < 0:
        return "−" + significant(-value, digits)
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def duration(seconds: float) -> str:
    """0.61 -> 0.61 s, 75 -> 1 min 15 s, 7300 -> 2 h 02 min."""
    if seconds < 60:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: Any) -> Cell:
    return _measured(value, significant)


def count(value: Any) -> Cell:
    return _measured(value, lambda n: f"{n:,.0f}")


def percent(value: Any) -> Cell:
    return _measured(value, lambda share: f"{100 * share:.1f} %")


def time(value: Any) -> Cell:
    return _measured(value, duration)


def memory(value: Any) -> Cell:
    return _measured(value, lambda mb: f"{mb:,.0f} MB" if mb < 10_000 else f"{mb / 1000:,.1f} GB")


def interval(bounds: Any) -> Cell:
    """[0.8, 0.95] -> 80.0–95.0 %."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or None in bounds:
        return Cell(MISSING, kind="missing")
    low, high = bounds
    return Cell(f"{100 * low:.1f}–{100 * high:.1f} %", f"{low} to {high}", kind="number")


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


def cost_of(measures: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds and peak memory as measured, else as the status of the run has them."""
    known = {key: status.get(key) or None for key in ("seconds", "peak_mb")}
    return {**known, **{key: value for key, value in (measures.get("cost") or {}).items() if value is not None}}


def cost_table(measures: Mapping[str, Any], status: Mapping[str, Any], work: str = "drawing") -> Table:
    """What the run took; only one that drew has a time per picture."""
    cost = cost_of(measures, status)
    cells = {"Time": time(cost.get("seconds"))}
    cells |= {} if work != "drawing" else {"Per picture": time(cost.get("seconds_per_picture"))}
    cells |= {"Peak memory": memory(cost.get("peak_mb"))}
    note = f"Wall-clock time of the {work} alone, on the machine that ran it, and the most memory it held."
    return Table("What it cost", list(cells), [list(cells.values())], note)


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


VERDICT = ("Hit-rate", "95 % interval", "Fréchet", "Diversity")


def _verdict(judge: Mapping[str, Any]) -> list[Cell]:
    gave = GAVE_GRADIENT if judge.get("gave_gradient") else ""
    share = replace(percent(judge.get("hit_rate")), remark=gave)
    bounds = interval(judge.get("hit_interval") if judge.get("n") else None)
    return [share, bounds, number(judge.get("frechet")), number(judge.get("diversity"))]


def in_columns(table: Table) -> Table:
    """A row per run -> a column per run, so that runs stand side by side and many measures need no wide page."""
    rows = [
        [name(title), *(row[place] for row in table.rows)] for place, title in enumerate(table.columns[1:], start=1)
    ]
    return replace(table, columns=["", *(row[0].text for row in table.rows)], rows=rows)


def settings_tables(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Table]:
    """One table per table of recipe.toml, one column per run; a setting that differs between runs is marked."""
    titles = {"settings": "Settings", "model": "Model", "versions": "Versions"}
    groups: dict[str, list[dict[str, Any]]] = {}
    for place, (_, recipe) in enumerate(runs):
        loose = {key: value for key, value in recipe.items() if not isinstance(value, Mapping)}
        tables = {key: value for key, value in recipe.items() if isinstance(value, Mapping)}
        if loose:
            tables["settings"] = loose | dict(tables.get("settings", {}))
        for title, table in tables.items():
            groups.setdefault(title, [{} for _ in runs])[place] = dotted(table)
    order = sorted(groups, key=lambda key: list(titles).index(key) if key in titles else len(titles))
    return [
        _settings_table(titles.get(key, key.capitalize()), [label for label, _ in runs], groups[key]) for key in order
    ]


def _settings_table(title: str, labels: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for key in dict.fromkeys(key for column in columns for key in column):
        texts = ["not set" if key not in column else _setting(column[key]) for column in columns]
        differs = "differs" if len(set(texts)) > 1 else ""
        rows.append([name(key), *(Cell(text, kind=differs) for text in texts)])
    note = "Values in bold differ between the runs." if len(labels) > 1 and any(r[1].kind for r in rows) else ""
    return Table(title, ["", *labels], rows, note)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
