"""HTML fragments of the page: job status, pictures, photos before and after, walks, run cards and comparisons.

The templates escape every text. Pictures of a job are embedded as data; those of runs are fetched by URL.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from bothways.models.layers_of import LayerRow
from bothways.report import tables
from bothways.report.page import sentence
from bothways.report.pictures import shown_size
from bothways.report.sections import Run, fitting, measures_of
from bothways.report.share.pages import shared_files
from bothways.runs import RunFolder, to_png
from bothways.studio.difference import difference
from bothways.studio.jobs import Job
from bothways.studio.shelf import require_plain
from bothways.studio.tabs.labels import in_words_of_the_page
from bothways.tasks.explain.section import consistency_table, facts_of
from bothways.tasks.generate.section import comparison_table, judge_table, judges
from bothways.types import UserError

CARDS = 60  # at most, the newest runs
ON_A_CARD = 6  # pictures of a card
BESIDE = 24  # pictures of a run that is shown or compared
PAINTED = 320  # CSS pixels of the longer side of the photo under the mask canvas
PLACES = tuple[str, float]


@cache
def _environment() -> Environment:
    def part(name: str) -> str:
        return resources.files("bothways.studio").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["held"] = tables.held
    return environment


def _filled(fragment: str, **values: Any) -> str:
    return str(getattr(_environment().get_template("fragments.html.jinja").module, fragment)(**values))


def figure(image: Tensor, caption: str = "", at_least: int = 0) -> dict[str, Any]:
    """A picture (3,H,W) in [0,1] as a data URL, with its size on the page and its caption."""
    source = "data:image/png;base64," + base64.b64encode(to_png(image)).decode()
    width, height = shown_size(image.shape[2], image.shape[1])
    if width < at_least:
        width, height = at_least, round(height * at_least / width)
    crisp = width > image.shape[2]
    return {"src": source, "width": width, "height": height, "crisp": crisp, "caption": caption}


def address(run: str, file: str) -> str:
    """The URL of a picture of a run. file: images/NAME.png or photos/NAME.png."""
    return f"picture?{urlencode({'run': run, 'file': file})}"


def report_address(*runs: str) -> str:
    return "report?" + "&".join(f"run={quote(run)}" for run in runs)


def note(text: str, kind: str = "", *, alert: bool = False) -> str:
    """A one-line message; screen readers announce an alert at once. kind: the tab."""
    return _filled("note", text=in_words_of_the_page(text, kind), alert=alert)


def status(job: Job | None, before: int = 0) -> str:
    """The status line of a job; empty for None. before: number of jobs ahead of it."""
    if job is None:
        return ""
    left = None if job.left is None else tables.duration(job.left) if job.left >= 60 else f"{job.left:.0f} s"
    took = tables.duration(job.seconds)
    message, *notes = (in_words_of_the_page(text, job.request.kind) for text in (job.message, *job.notes))
    shown = replace(job, message=message, notes=tuple(notes))
    return _filled("status", job=shown, before=before, left=left, took=took, report=report_address(job.name))


def pictures(job: Job | None, empty: str) -> str:
    """The current pictures of a job with their captions. empty: the text shown without a job."""
    if job is None or not job.pictures:
        return _filled("empty", text=empty if job is None else "")
    shown = [figure(image, job.captions.get(number, "")) for number, image in sorted(job.pictures.items())]
    return _filled("pictures", figures=shown)


def single(image: Tensor) -> str:
    """A single picture."""
    return _filled("pictures", figures=[figure(image)])


def verdicts(folder: RunFolder) -> str:
    """The table of judge metrics of a finished drawing; empty if it was not judged."""
    with fitting(folder):
        measures = measures_of(folder)
        return _filled("tables", tables=[judge_table(measures)]) if judges(measures) else ""


def downloads(name: str, folder: RunFolder) -> str:
    """The files of a finished run that are there to be shown to others, to download; empty for none."""
    files = [path.name for path in shared_files(folder.path) if path.suffix != ".html"]
    shown = [{"file": file, "src": f"download?{urlencode({'run': name, 'file': file})}"} for file in files]
    return _filled("downloads", files=shown) if shown else ""


def audited(folder: RunFolder) -> str:
    """The classes of a finished audit, highest consistency first, and a link to its page."""
    with fitting(folder):
        facts = facts_of(measures_of(folder))
        return "" if facts is None else _filled("tables", tables=[consistency_table(facts)])


def layers(rows: Sequence[LayerRow]) -> str:
    """The layers of a model as a table; those that cannot be drawn say so."""
    cells = [
        [
            tables.name(row.name),
            tables.name(row.kind),
            tables.name(" x ".join(map(str, row.shape)) or "cannot be drawn"),
            tables.count(row.parameters),
        ]
        for row in rows
    ]
    note = "Shapes are of one picture: channels x height x width, tokens x channels, or numbers."
    columns = ["Layer", "Kind", "Shape", "Parameters"]
    return f'<div class="bw-long">{_filled("tables", tables=[tables.Table("Layers", columns, cells, note)])}</div>'


def calls(found: Sequence[PLACES]) -> str:
    """Predicted classes with their probabilities."""
    return _filled("calls", calls=[{"name": name, "share": share} for name, share in found])


def painter(photo: Tensor) -> str:
    """A photo (3,H,W) under a canvas of the same pixels, on which a mask is painted."""
    high, wide = photo.shape[-2:]
    shown = round(PAINTED * min(1.0, wide / high))
    brush = max(1, round(max(high, wide) / 8))
    return _filled("painter", source=figure(photo)["src"], width=wide, height=high, shown=shown, brush=brush)


def changes(folder: RunFolder) -> str:
    """Each photo of a run before and after, their difference, and how many pixels changed outside the mask."""
    photos, mask = folder.read_given("photo"), next(iter(folder.read_given("mask")), None)
    rows = []
    for record in folder.pictures if photos else []:
        before, after = photos[int(record["index"]) % len(photos)], folder.read_picture(record)
        between = difference(before, after, None if mask is None else mask[0] > 0.5)
        trio = [
            (between.before, "before"),
            (after, f"after, seed {record.get('seed')}"),
            (between.picture, "difference"),
        ]
        rows.append({"figures": [figure(image, words, at_least=192) for image, words in trio], "between": between})
    return _filled("changes", rows=rows)


def walk(folder: RunFolder, place: int, run: str) -> str:
    """One depth of a walk: both states, predicted classes and nearest pictures. place: index of the depth."""
    with fitting(folder):
        return _depth(folder, place, run)


def _depth(folder: RunFolder, place: int, run: str) -> str:
    found = measures_of(folder)["walk"]
    depths = found["depths"]
    place = max(0, min(place, len(depths) - 1))
    records = {way: [r for r in folder.pictures if r["way"] == way] for way in ("there", "back")}
    ways = [("to noise", records["there"][place], "there"), ("and back", records["back"][-1 - place], "back")]
    sides = [
        {
            "figure": figure(folder.read_picture(record), words, at_least=192),
            "calls": _calls(found.get(f"called_{way}"), place),
        }
        for words, record, way in ways
    ]
    near = [
        {"src": address(run, entry["file"]), "caption": f"{entry['distance']:.3f}"} for entry in found["nearest"][place]
    ]
    return _filled("walk", depth=depths[place], sides=sides, near=near, lost=found["lost"])


def _calls(calls: Sequence[Sequence[PLACES]] | None, place: int) -> list[dict[str, Any]]:
    return [] if calls is None else [{"name": name, "share": share} for name, share in calls[place]]


def cards(runs: Mapping[str, RunFolder]) -> str:
    """The runs as a gallery of buttons."""
    newest = list(runs.items())[:CARDS]
    return _filled("cards", cards=[_card(name, folder) for name, folder in newest], more=len(runs) - len(newest))


def _card(name: str, folder: RunFolder) -> dict[str, Any]:
    try:
        with fitting(folder):
            return _read_card(name, folder)
    except UserError as error:  # one broken run must not hide the others
        return {
            "name": name,
            "says": in_words_of_the_page(str(error)),
            "state": "broken",
            "pictures": [],
            "rates": [],
            "report": "",
        }


def _read_card(name: str, folder: RunFolder) -> dict[str, Any]:
    require_plain(folder)
    run = Run.read(folder)
    files = [record["file"] for record in run.pictures[:ON_A_CARD]]
    rates = [
        f"{judge.get('judge', '').removeprefix('bundled:')} {100 * judge['hit_rate']:.0f} %"
        for judge in judges(run.measures)
        if judge.get("hit_rate") is not None and not judge.get("gave_gradient")
    ]
    return {
        "name": name,
        "says": sentence(run),
        "state": "" if run.status["state"] == "complete" else run.status["state"],
        "pictures": [address(name, file) for file in files],
        "rates": rates,
        "report": report_address(name),
    }  # fmt: skip


def beside(runs: Mapping[str, RunFolder]) -> str:
    """Pictures, measures and settings of one or two runs; differing settings are marked."""
    with fitting(*runs.values()):
        return _beside(runs)


def _beside(runs: Mapping[str, RunFolder]) -> str:
    sides = [
        {
            "name": name,
            "says": sentence(Run.read(folder)),
            "pictures": [_shown(name, record) for record in folder.pictures[:BESIDE]],
            "more": max(0, len(folder.pictures) - BESIDE),
            "downloads": Markup(downloads(name, folder)),
        }
        for name, folder in runs.items()
    ]
    return _filled("beside", sides=sides, tables=list(_tables(runs)), report=report_address(*runs))


def _shown(run: str, record: Mapping[str, Any]) -> dict[str, str]:
    words = [str(record["class"])] if record.get("class") else []
    words += [f"seed {record['seed']}"] if "seed" in record else []
    return {"src": address(run, record["file"]), "caption": ", ".join(words)}


def _tables(runs: Mapping[str, RunFolder]) -> Iterable[tables.Table]:
    measured = [(name, measures_of(folder), folder.status) for name, folder in runs.items()]
    if any(judges(measures) for _, measures, _ in measured):
        yield tables.in_columns(comparison_table(measured))
    yield from tables.settings_tables([(name, folder.settings) for name, folder in runs.items()])
