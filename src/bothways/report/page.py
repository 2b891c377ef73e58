"""The report: a self-contained HTML page of one or several run folders.

Pictures, Plotly, styles and scripts are embedded, and a content security policy forbids every request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bothways.brief import joined
from bothways.report import tables
from bothways.report.charts import Chart
from bothways.report.parts import Facts, strip_size
from bothways.report.pictures import Album, album
from bothways.report.sections import Run, fitting
from bothways.report.share.pages import write_shared
from bothways.report.template import HERE, check_page, filled, write_page
from bothways.runs import RunFolder
from bothways.types import UserError

GIVEN_AT_MOST = 50  # input photos that are shown
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def write_report(paths: Sequence[Path], out: Path) -> Path:
    """Write the report of the run folders at ``paths`` to ``out`` and return ``out``.

    With the report of one run that lies in its folder, its contact sheets and its atlas are written too.
    Raises UserError if a path is not a run folder, or ``out`` cannot be written or is a file that is no page of ours.
    """
    check_page(out)
    folders = [RunFolder.open(path) for path in paths]
    write_page(out, render(folders))
    if len(folders) == 1 and out.resolve().parent == folders[0].path.resolve():
        write_shared(folders[0])
    return out


def render(folders: Sequence[RunFolder]) -> str:
    """The report of these runs as HTML. Raises UserError for no runs, or if a picture cannot be read."""
    if not folders:
        raise UserError("report: no run folder given; type at least one")
    runs = [Run.read(folder, label) for folder, label in zip(folders, _labels(folders), strict=True)]
    with fitting(*folders):
        return _rendered(runs)


def _rendered(runs: Sequence[Run]) -> str:
    for run in runs:
        if (page := run.section.page_of(run.folder)) is not None:
            if len(runs) > 1:
                raise UserError(f"{run.folder.path}: has a page of its own; type bothways report {run.folder.path}")
            return page
    sections = [run.section.section(run.measures) or {} for run in runs]
    kept = _album(runs, sections)
    shown = [_shown(run, own, place, kept) for place, (run, own) in enumerate(zip(runs, sections, strict=True))]
    comparisons = _comparisons(runs)
    return filled(
        HERE,
        "page.html.jinja",
        title=_title([run.label for run in runs]),
        runs=shown,
        comparisons=comparisons,
        beside=_beside(shown),
        settings=tables.settings_tables([(run.label, run.recipe) for run in runs]),
        citations=list(dict.fromkeys(str(e).strip() for run in runs for e in run.measures.get("citations") or [])),
        charted=any(drawn for _, drawn in comparisons) or any(map(_is_charted, shown)),
    )


def sentence(run: Run) -> str:
    """Describe a run: "das drew 100 pictures of 10 classes with resnet20 in 60.1 s on 3 May 2026."."""
    words = run.section.sentence_of(run)
    words += f" in {tables.duration(run.status['seconds'])}" if run.status.get("seconds") else ""
    try:
        day = datetime.fromisoformat(str(run.status.get("started")))
    except ValueError:
        return words + "."
    return f"{words} on {day.day} {day:%B %Y}."


# ---- one run -------------------------------------------------------------------------------------------------------


def _shown(run: Run, own: Facts, place: int, kept: Album) -> dict[str, Any]:
    """The values of a run for the template. own: its section."""
    pictures = [
        _picture(kept.embedded(run.folder.image_path(record)), run, index, record)
        for index, record in enumerate(run.pictures)
    ]
    strips = [
        _plain(kept.embedded(path, strip_size), f"picture {number}")
        for number, path in enumerate(_strips(run, own), start=1)
    ]
    return {
        "label": run.label,
        "anchor": f"run-{place}",
        "sentence": sentence(run),
        "work": run.section.work,
        "unfinished": _unfinished(run.status),
        "notes": list(run.measures.get("notes") or []),
        "legend": _lettered(run.section.legend_of(run.measures)),
        "given": [_plain(kept.embedded(path), path.stem) for path in _given(run)],
        "remark": kept.remark(run.folder.path, f"{run.label}/images"),
        "groups": _grouped(pictures),
        "section": {"depths": [], "parts": [], "numbers": None, **own, "strips": strips} if own else None,
        "tables": [
            *run.section.tables_of(run.measures),
            tables.cost_table(run.measures, run.status, run.section.work),
            *filter(None, [tables.stages_table(run.measures, run.status)]),
        ],
        "parts": run.section.parts_of(run),
        "progress": run.section.progress_of(run),
    }


def _picture(own: Mapping[str, Any], run: Run, place: int, record: Facts) -> dict[str, Any]:
    """A picture of a run for the template. own: its embedding by an Album."""
    index, target = record.get("index", place), str(record.get("class") or "")
    title = f"{target or 'picture'}, picture {index}"
    calls = _lettered(run.section.calls_of(run.measures, place, record))
    return {**own, "title": title, "target": target, "calls": calls, "facts": _facts(record)}


def _plain(own: Mapping[str, Any], title: str) -> dict[str, Any]:
    return {**own, "title": title, "calls": [], "facts": []}


def _lettered(of_judges: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add the letters that mark the judges under the pictures."""
    return [{**told, "letter": letter} for letter, told in zip(LETTERS, of_judges, strict=False)]


def _facts(record: Facts) -> list[list[str]]:
    """The details of a picture for the viewer: every plain value of its record, seed first."""
    hidden = {"file", "index", "class", "label"}
    keys = sorted((key for key in record if key not in hidden), key=lambda key: key != "seed")
    plain = {key: record[key] for key in keys if isinstance(record[key], (int, float, str))}
    return [
        [key.replace("_", " "), tables.significant(value, 4) if isinstance(value, float) else str(value)]
        for key, value in plain.items()
    ]


def _grouped(pictures: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for picture in pictures:
        groups.setdefault(picture["target"], []).append(picture)
    return groups


def _unfinished(status: Facts) -> str:
    """The status line of a run that is not complete; else empty."""
    if status["state"] == "complete":
        return ""
    of = f" after {status['pictures']} of {status['of']} pictures" if status.get("of") else ""
    at = f" at step {status['step']} of {status['steps']}" if status.get("steps") else ""
    state = "not finished" if status["state"] == "running" else status["state"]
    doing = status.get("doing") or {}
    stage = str(doing.get("name", "")) + (f", {doing['done']} of {doing['total']}" if doing.get("total") else "")
    told = status.get("message") or (stage if doing.get("total") != status.get("steps") else "")
    return f"{state.capitalize()}{of}{at}" + (f": {told}" if told else "")


def _is_charted(shown: Facts) -> bool:
    parts = [*shown["parts"], *(shown["section"] or {"parts": []})["parts"]]
    return bool(shown["progress"]) or any(part.charts for part in parts)


# ---- files of all runs ---------------------------------------------------------------------------------------------


def _given(run: Run) -> list[Path]:
    """The first input photos, style pictures and masks of a run."""
    return run.folder.given()[:GIVEN_AT_MOST]


def _strips(run: Run, own: Facts) -> list[Path]:
    """The picture files of the strips of a run."""
    return [run.folder.image_path({"file": file}) for file in own.get("strips") or []]


def _album(runs: Sequence[Run], sections: Sequence[Facts]) -> Album:
    """All pictures of the page."""
    drawn = [run.folder.image_path(record) for run in runs for record in run.pictures]
    others = [path for run, own in zip(runs, sections, strict=True) for path in (*_given(run), *_strips(run, own))]
    return album([*drawn, *others])


# ---- several runs --------------------------------------------------------------------------------------------------


def _comparisons(runs: Sequence[Run]) -> list[tuple[tables.Table, list[Chart]]]:
    """A table with a column per run, and charts, for each task with several runs."""
    kinds: dict[Any, list[Run]] = {}
    for run in runs:
        kinds.setdefault(run.section.comparison_table, []).append(run)
    return [
        (
            tables.in_columns(table([(run.label, run.measures, run.status) for run in own])),
            own[0].section.charts_of(own, runs),
        )
        for table, own in ((table, _comparable(own)) for table, own in kinds.items())
        if len(own) > 1
    ]


def _comparable(runs: Sequence[Run]) -> list[Run]:
    """Without the runs whose judges judged no other: a network of photographs beside those of small pictures."""
    known = [{judge["judge"] for judge in run.section.legend_of(run.measures)} for run in runs]
    others = [set().union(*(own for k, own in enumerate(known) if k != place)) for place in range(len(runs))]
    return [run for run, own, rest in zip(runs, known, others, strict=True) if not own or own & rest]


def _beside(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The runs with pictures of a class that another has, and all their classes, for columns side by side.

    None for fewer than two runs.
    """
    counts = Counter(target for run in runs for target in run["groups"])
    drawn = [run for run in runs if any(counts[target] > 1 for target in run["groups"])]
    classes = list(dict.fromkeys(target for run in drawn for target in run["groups"]))
    anchors = [run["anchor"] for run in drawn]
    return {"runs": drawn, "anchors": anchors, "classes": classes} if len(drawn) > 1 else None


def _labels(folders: Sequence[RunFolder]) -> list[str]:
    """The names of the folders, prefixed by their parents if two share a name."""
    names = [folder.path.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else f"{folder.path.resolve().parent.name}/{name}"
        for name, folder in zip(names, folders, strict=True)
    ]


def _title(labels: Sequence[str]) -> str:
    """The labels joined ("a", "a and b", "a, b and c"), or how many runs there are."""
    return joined(labels) if len(labels) <= 3 else f"{len(labels)} runs"
