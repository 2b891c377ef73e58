"""The page of an audit: consistency and entanglement of the classes, and the portraits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.brief import joined
from bothways.report.parts import Facts
from bothways.report.pictures import Album, Size, album
from bothways.report.sections import fitting, measures_of
from bothways.report.tables import Cell, Table, name, number, settings_tables, significant
from bothways.report.template import filled, write_page
from bothways.runs import RunFolder
from bothways.tasks.explain.charts import (
    consistency_chart,
    entanglement_charts,
    layer_chart,
    viewer_name,
    worst_first,
)
from bothways.tasks.explain.result import AuditMeasures
from bothways.types import UserError

schema = AuditMeasures

PAGE = "audit.html"
SIDE = 72  # approximate side of a portrait in CSS pixels
PAIRS_SHOWN = 12
ROWS = (("file", "portrait"), ("alpha", "where it was drawn"), ("trait", "shared trait"), ("near", "nearest real"))


def facts_of(measures: Facts) -> Facts | None:
    """The audit of a run; None if there is none."""
    return measures.get("audit")


def sentence(facts: Facts) -> str:
    """Summarise an audit in one or two sentences."""
    classes, settings = facts["classes"], facts["settings"]
    found = [own for own in worst_first(facts) if own["worth_a_look"]]
    summary = f"{len(classes)} classes, {settings['n']} portraits each by {joined(settings['recipes'])}, compared with"
    summary += f" real pictures of {facts['data']['address']}."
    if not found:
        worst = worst_first(facts)[0]
        value = significant(worst["consistency"]["value"])
        return f"{summary} No class stands out; the highest consistency is {value} times the median ({worst['name']})."
    named = ", ".join(f"{own['name']} ({significant(own['consistency']['value'])} times the median)" for own in found)
    return f"{summary} Worth a look, since portraits share what real pictures lack: {named}."


# ---- tables ------------------------------------------------------------------------------------------------------


def consistency_table(facts: Facts) -> Table:
    """A row per class, highest consistency first."""
    rows = []
    for own in worst_first(facts):
        found, right = own["consistency"], own["accuracy"]
        bounds = f"{significant(found['low'])}–{significant(found['high'])}" if found["low"] is not None else ""
        flag = "worth a look" if own["worth_a_look"] else ""
        rows.append(
            [
                name(own["name"], flag),
                number(found["value"]),
                Cell(bounds, f"{found['low']} to {found['high']}", kind="number" if bounds else "missing"),
                number(own["gap"]),
                number(own["spread"]),
                Cell(own["layer"], kind="name"),
                Cell(f"{100 * right['value']:.0f} %", right["value"], f"of {right['n']}", "number"),
            ]
        )
    note = (
        "Consistency: how strongly portraits of all seeds share features that real pictures of their class lack, in "
        "units of the median class (95 % interval: jackknife over seeds). Layer: where they agree most. Gap and "
        "spread: the distance of the portraits from the real pictures and their deviation there, both in deviations of "
        f"the real pictures. Values over {facts['worth_a_look']:g} are worth a look. Real pictures as portraits "
        f"reach {significant(facts['control'])}."
    )
    columns = ["Class", "Consistency", "95 % interval", "Gap", "Spread", "Layer", "Accuracy on real pictures"]
    return Table("Consistency of the portraits", columns, rows, note)


def pair_table(facts: Facts) -> Table:
    """A row per pair of classes, a column per viewer."""
    rows = []
    for (own, seen), by_viewer in pairs(facts).items():
        cells = [
            Cell(f"{100 * pair['share']:.0f} %", pair["share"], f"real: {100 * pair['real_share']:.0f} %", "number")
            if (pair := by_viewer.get(viewer["viewer"]))
            else Cell("not listed", kind="missing")
            for viewer in facts["entanglement"]
        ]
        rows.append([name(own), Cell(seen, kind="name"), *cells])
    note = (
        "How often another class is among a viewer's two most probable classes besides the target, in portraits and in "
        "real pictures. Listed are pairs in at most one real picture in ten that are more frequent in portraits by "
        "Fisher's exact test (5 % over all pairs of a viewer). A pair listed by several viewers is visible in the "
        "pictures; one listed by the model alone may be specific to it. The probabilities of both classes may be small."
    )
    return Table(
        "Classes recognised in portraits and not in the data",
        ["Portraits of", "Also recognised", *map(viewer_name, facts["entanglement"])],
        rows,
        note,
    )


def recognition_table(facts: Facts) -> Table:
    """A row per class, highest consistency first; a column per viewer that knows the classes."""
    viewers = [viewer for viewer in facts["entanglement"] if any(viewer.get("recognised") or ())]
    places = {own["label"]: place for place, own in enumerate(facts["classes"])}  # two classes may have one name

    def cell(viewer: Facts, place: int) -> Cell:
        own, real = viewer["recognised"][place], viewer["recognised_real"][place]
        if own is None:
            return Cell("not one of its classes", kind="missing")
        beside = f"real: {100 * real['value']:.0f} %" if real else ""
        return Cell(f"{round(own['n'] * own['value'])} of {own['n']}", own["value"], beside, "number")

    rows = [
        [name(own["name"]), *(cell(viewer, places[own["label"]]) for viewer in viewers)] for own in worst_first(facts)
    ]
    note = (
        "How many portraits of a class a viewer calls by it, among the audited classes, and how many of its real "
        "pictures. Portraits that the model itself recognises and others do not show what the model responds to "
        "instead of the class, or are poor drawings: compare with the other classes."
    )
    return Table("Portraits recognised", ["Portraits of", *map(viewer_name, viewers)], rows if viewers else [], note)


def pairs(facts: Facts) -> dict[tuple[str, str], dict[str, Facts]]:
    """{(class, other class): {viewer: pair}}, those listed by most viewers first."""
    found: dict[tuple[str, str], dict[str, Facts]] = {}
    for viewer in facts["entanglement"]:
        for pair in viewer["pairs"]:
            found.setdefault((pair["class"], pair["seen"]), {})[viewer["viewer"]] = pair
    order = sorted(found, key=lambda key: (-len(found[key]), min(pair["p"] for pair in found[key].values())))
    return {key: found[key] for key in order}


# ---- the portraits -----------------------------------------------------------------------------------------------


def _size(width: int, height: int) -> Size:
    """The displayed size: small pictures enlarged by a whole factor, large ones shrunk to about ``SIDE``."""
    long = max(width, height)
    scale = max(1, SIDE // long) if long <= SIDE else SIDE / long
    return round(width * scale), round(height * scale)


def _files(portrait: Facts, hidden: bool) -> dict[str, str]:
    """The picture files of a portrait by row."""
    own = {key: portrait[key] for key in ("file", "alpha", "trait") if portrait.get(key)}
    return own if hidden else own | {"near": portrait["nearest"]["file"]}


def sheets(folder: Path, facts: Facts, kept: Album, hidden: bool) -> list[dict[str, Any]]:
    """The rows of each class: portraits, evidence, shared trait, nearest real pictures."""
    found = []
    for own in worst_first(facts):
        rows = []
        for key, title in ROWS:
            items = [
                _item(kept, folder / files[key], own, portrait, title)
                for portrait in own["portraits"]
                if key in (files := _files(portrait, hidden))
            ]
            if items:
                rows.append({"title": title, "items": items})
        found.append({"name": own["name"], "flag": own["worth_a_look"], "words": _words(own), "rows": rows})
    return found


def _words(own: Facts) -> str:
    value = significant(own["consistency"]["value"])
    others = [portrait["nearest"]["class"] for portrait in own["portraits"]]
    same = sum(other == own["name"] for other in others)
    return f"Consistency {value}. Of the {len(others)} nearest real pictures {same} are of {own['name']}."


def _item(kept: Album, path: Path, own: Facts, portrait: Facts, title: str) -> dict[str, Any]:
    near = portrait["nearest"]
    facts = [["seed", str(portrait["seed"])], ["recipe", portrait["recipe"]]]
    facts += [["own probability", significant(portrait["own_probability"], 4)]]
    facts += [["nearest real", f"{near['class']}, cosine {near['cosine']:.2f}"]]
    caption = {ROWS[0][1]: portrait["recipe"], ROWS[3][1]: near["class"]}.get(title, "")
    odd = title == ROWS[3][1] and caption != own["name"]
    return {
        **kept.embedded(path, _size), "title": f"{own['name']}, {title}", "facts": facts, "caption": caption, "odd": odd
    }  # fmt: skip


def page_of(folder: RunFolder) -> str | None:
    """The page of an audit; None if it was not measured."""
    return render_audit(folder) if facts_of(measures_of(folder)) is not None else None


def render_audit(folder: RunFolder, *, hide_data: bool = False) -> str:
    """The page of the audit in a folder, as HTML. hide_data: omit the real pictures, so that the page can be shared.

    Raises UserError if there is no audit or a picture is missing.
    """
    measures = measures_of(folder)
    facts = facts_of(measures)
    if facts is None:
        raise UserError(f"{folder.path}: holds no audit; type bothways explain MODEL --data DATA --out {folder.path}")
    every = [portrait for own in facts["classes"] for portrait in own["portraits"]]
    files = dict.fromkeys(file for portrait in every for file in _files(portrait, hide_data).values())
    kept = album([folder.path / file for file in files])
    by_number = {portrait["number"]: (own, portrait) for own in facts["classes"] for portrait in own["portraits"]}
    shown = [
        {
            "title": f"{seen} in {of}",
            "items": [
                _item(kept, folder.path / by_number[number][1]["file"], *by_number[number], "portrait")
                for number in next(iter(by_viewer.values()))["pictures"]
            ],
        }
        for (of, seen), by_viewer in list(pairs(facts).items())[:PAIRS_SHOWN]
    ]
    return filled(
        __package__,
        "audit.html.jinja",
        title=folder.settings.get("model", {}).get("address") or folder.path.resolve().name,
        sentence=sentence(facts),
        consistency=consistency_table(facts),
        charts=[consistency_chart(facts), layer_chart(facts)],
        sheets=sheets(folder.path, facts, kept, hide_data),
        remark=kept.remark(folder.path, folder.path.resolve().name),
        hidden=hide_data,
        recognised=recognition_table(facts),
        pairs=pair_table(facts),
        pair_pictures=shown,
        entanglement=entanglement_charts(facts),
        settings=settings_tables([("", folder.settings)]),
        citations=measures.get("citations") or [],
        charted=True,
    )


def write_audit(folder: str | Path, *, hide_data: bool = False) -> Path:
    """Write ``audit.html`` to the folder of an audit, and return its path."""
    found = RunFolder.open(folder)
    page = found.path / PAGE
    with fitting(found):
        write_page(page, render_audit(found, hide_data=hide_data))
    return page
