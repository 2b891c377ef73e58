"""The report: one HTML page from one or several run folders, that asks nothing of the network.

Pictures, Plotly, style and script stand inside the page, and its content policy forbids every request.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bothways.report import along, charts, classifier, curves, evaluation, features, flow, tables
from bothways.report.sentence import sentence, work_of
from bothways.runs import PHOTOS, RunFolder
from bothways.runs.files import reason, replace_file
from bothways.types import RunError, UserError

SMALL = 96  # pixels: a picture under this is enlarged, by a whole factor, to 96..128
LARGE = 224  # pixels: a picture over this is shown at this
GIVEN_AT_MOST = 50  # photos shown beside what was made of them
ASKED = (evaluation, curves, features)  # sections of what was asked of a model: measures -> what stands there
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def shown_size(width: int, height: int) -> tuple[int, int]:
    """How large a picture is shown, in CSS pixels: 32 -> 96, 28 -> 112, 64 -> 128, 224 -> 224, 512 -> 224."""
    long = max(width, height)
    scale = min(-(-SMALL // long), 128 / long) if long < SMALL else min(1.0, LARGE / long)
    return round(width * scale), round(height * scale)


def png_size(content: bytes) -> tuple[int, int]:
    """(width, height) from the header of a PNG. Raises UserError where it is none."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise UserError("not a PNG file")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def _embedded(
    folder: RunFolder, record: Mapping[str, Any], size: Callable[[int, int], tuple[int, int]] = shown_size
) -> dict[str, Any]:
    path = folder.image_path(record)
    try:
        content = path.read_bytes()
        width, height = png_size(content)
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}; restore the picture, or draw the run again") from error
    except UserError as error:
        raise UserError(f"{path}: {error}; restore the picture, or draw the run again") from error
    shown = size(width, height)
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"src": source, "width": shown[0], "height": shown[1], "crisp": shown[0] > width}


def _calls(place: int, record: Mapping[str, Any], judges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each judge called picture ``place``: {"letter", "judge", "name", "hit", "confidence"}."""
    calls = []
    for letter, judge in zip(LETTERS, judges, strict=False):
        names, confidences = charts.verdicts(judge), judge.get("confidence") or []
        if place < len(names):
            confidence = tables.percent(confidences[place] if place < len(confidences) else None)
            hit = charts.is_hit(judge, place, record)
            whole = confidence.text.split(".")[0] + " %" if confidence.kind == "number" else ""
            facts = {"letter": letter, "judge": judge.get("judge", "unnamed"), "name": names[place] or "nothing"}
            calls.append({**facts, "hit": hit, "confidence": confidence.text, "short": whole})
    return calls


def _facts(record: Mapping[str, Any]) -> list[list[str]]:
    """What the dialog says of a picture: every plain value of its record, seed first."""
    hidden = {"file", "index", "class", "label"}
    keys = sorted((key for key in record if key not in hidden), key=lambda key: key != "seed")
    plain = {key: record[key] for key in keys if isinstance(record[key], (int, float, str))}
    return [
        [key.replace("_", " "), tables.significant(value, 4) if isinstance(value, float) else str(value)]
        for key, value in plain.items()
    ]


def _picture(folder: RunFolder, place: int, record: Mapping[str, Any], judges: Sequence[Any]) -> dict[str, Any]:
    index, wanted = record.get("index", place), str(record.get("class") or "")
    title = f"{wanted or 'picture'}, picture {index}"
    calls = _calls(place, record, judges)
    return {**_embedded(folder, record), "title": title, "wanted": wanted, "calls": calls, "facts": _facts(record)}


def _given(folder: RunFolder) -> list[dict[str, Any]]:
    """The first of the photos, styles and masks that a run was given."""
    files = sorted((folder.path / PHOTOS).glob("*.png"))[:GIVEN_AT_MOST]
    return [
        {**_embedded(folder, {"file": f"{PHOTOS}/{file.name}"}), "title": file.stem, "calls": [], "facts": []}
        for file in files
    ]


def _grouped(pictures: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for picture in pictures:
        groups.setdefault(picture["wanted"], []).append(picture)
    return list(groups.items())


def _unfinished(status: Mapping[str, Any]) -> str:
    """A line for a run that is not complete, else nothing."""
    if status["state"] == "complete":
        return ""
    of = f" after {status['pictures']} of {status['of']} pictures" if status.get("of") else ""
    state = "not finished" if status["state"] == "running" else status["state"]
    return f"{state.capitalize()}{of}" + (f": {status['message']}" if status.get("message") else "")


def _run(folder: RunFolder, label: str, place: int) -> dict[str, Any]:
    """Everything that the template shows of one run."""
    recipe, status, measures, records = folder.settings, folder.status, folder.measures, folder.pictures
    judges = tables.judges(measures)
    of_flow = _flow(folder, measures) or next(filter(None, (kind.section(measures) for kind in ASKED)), None)
    work = work_of(recipe, measures)
    verdicts = [] if work != "drawing" and not judges else [tables.judge_table(measures), tables.image_table(measures)]
    pictures = [_picture(folder, index, record, judges) for index, record in enumerate(records)]
    confusions = [chart for judge in judges if (chart := charts.confusion(judge, records)) is not None]
    return {
        "label": label,
        "anchor": f"run-{place}",
        "sentence": sentence(folder, work),
        "work": work,
        "unfinished": _unfinished(status),
        "legend": _legend(judges),
        "given": _given(folder),
        "groups": _grouped(pictures),
        "flow": of_flow,
        "tables": [*verdicts, tables.cost_table(measures, status, work)],
        "confusions": confusions,
        "objectives": [*charts.objectives(folder.frames), *along.charts(folder)],
        "recipe": recipe,
        "status": status,
        "measures": measures,
    }


def _flow(folder: RunFolder, measures: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the template shows of a flow, or of one made a classifier; None where neither was measured."""
    if (known := classifier.facts_of(measures)) is not None:
        return {"strips": [], "depths": [], "numbers": classifier.numbers_table(known), "parts": []}
    facts = flow.facts_of(measures)
    if facts is None:
        return None
    rows = [
        {**_embedded(folder, {"file": file}, flow.strip_size), "title": f"picture {place}", "calls": [], "facts": []}
        for place, file in enumerate(facts.get("strips") or [], start=1)
    ]
    numbers, parts = flow.numbers_table(facts), flow.parts(facts)
    return {"strips": rows, "depths": flow.depth_labels(facts), "numbers": numbers, "parts": parts}


def _legend(judges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which letter stands for which judge under the pictures."""
    return [
        {"letter": letter, "judge": judge.get("judge", "unnamed"), "gave_gradient": bool(judge.get("gave_gradient"))}
        for letter, judge in zip(LETTERS, judges, strict=False)
    ]


def _labels(folders: Sequence[RunFolder]) -> list[str]:
    """The name of each folder; with its parent's before it where two share one."""
    names = [folder.path.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else f"{folder.path.resolve().parent.name}/{name}"
        for name, folder in zip(names, folders, strict=True)
    ]


def _title(labels: Sequence[str]) -> str:
    """a; a and b; a, b and c; then how many."""
    if len(labels) > 3:
        return f"{len(labels)} runs"
    return " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))


@cache
def _part(name: str) -> str:
    return resources.files("bothways.report").joinpath(name).read_text(encoding="utf-8")


def filled(template: str, *, charted: bool, **values: Any) -> str:
    """A template of this folder with its values, and with style and script inside. charted: whether it has charts."""
    loader = FunctionLoader(_part)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        missing=tables.MISSING,
        gave_gradient=tables.GAVE_GRADIENT,
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
        plotly=Markup(get_plotlyjs()) if charted else "",
        **values,
    )


def render(folders: Sequence[RunFolder]) -> str:
    """The page of these runs, as HTML. Raises UserError for no run, or for one whose pictures cannot be read."""
    if not folders:
        raise UserError("report: no run folder given; type at least one")
    runs = [
        _run(folder, label, place) for place, (folder, label) in enumerate(zip(folders, _labels(folders), strict=True))
    ]
    drawn = any(run["confusions"] or run["objectives"] or (run["flow"] and run["flow"]["parts"]) for run in runs)
    citations = dict.fromkeys(str(entry).strip() for run in runs for entry in run["measures"].get("citations") or [])
    return filled(
        "page.html.jinja",
        title=_title([run["label"] for run in runs]),
        runs=runs,
        comparisons=_comparisons(runs),
        settings=tables.settings_tables([(run["label"], run["recipe"]) for run in runs]),
        citations=list(citations),
        charted=drawn,
    )


def _comparisons(runs: Sequence[Mapping[str, Any]]) -> list[tables.Table]:
    """A table of each kind of run that there are several of: only like is compared with like."""
    kinds: dict[Any, list[Mapping[str, Any]]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    return [
        kind.comparison_table([(run["label"], run["measures"], run["status"]) for run in of])
        for kind, of in kinds.items()
        if len(of) > 1
    ]


def _kind(run: Mapping[str, Any]) -> Any:
    """The module whose numbers are compared."""
    found = next((kind for kind in (classifier, *ASKED) if kind.facts_of(run["measures"]) is not None), None)
    return found or (flow if run["flow"] and run["work"] != "evaluation" else tables)


def write_report(paths: Sequence[Path], out: Path) -> Path:
    """Write the page of the run folders at ``paths`` to ``out`` and return it.

    Raises UserError for a path that is no run folder, and for an ``out`` that cannot be written.
    """
    page = render([RunFolder.open(path) for path in paths])
    if out.is_dir():
        raise UserError(f"{out}: is a folder; type the file to write, for example {out / 'report.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, page.encode())
    except OSError as error:
        raise UserError(f"{out}: {reason(error)}; choose a place that can be written") from error
    except RunError as error:
        raise UserError(str(error).split(";")[0] + "; choose a place that can be written") from error
    return out
