"""The report: one HTML page from one or several run folders, that asks nothing of the network.

Pictures, Plotly, style and script stand inside the page, and its content policy forbids every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.report import along, charts, compared, flow, tables
from bothways.report.pictures import Album, album
from bothways.report.sentence import sentence, work_of
from bothways.report.template import filled
from bothways.runs import PHOTOS, RunFolder
from bothways.runs.files import reason, replace_file
from bothways.tasks.curves import section as curves
from bothways.tasks.evaluate import section as evaluation
from bothways.tasks.explain import section as audit
from bothways.tasks.features import section as features
from bothways.tasks.finetune import section as classifier
from bothways.types import RunError, UserError

GIVEN_AT_MOST = 50  # photos shown beside what was made of them
ASKED = (evaluation, curves, features)  # sections of what was asked of a model: measures -> what stands there
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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


def _picture(own: Mapping[str, Any], place: int, record: Mapping[str, Any], judges: Sequence[Any]) -> dict[str, Any]:
    """own: the picture itself, as an Album has it."""
    index, wanted = record.get("index", place), str(record.get("class") or "")
    title = f"{wanted or 'picture'}, picture {index}"
    calls = _calls(place, record, judges)
    return {**own, "title": title, "wanted": wanted, "calls": calls, "facts": _facts(record)}


def _plain(own: Mapping[str, Any], title: str) -> dict[str, Any]:
    return {**own, "title": title, "calls": [], "facts": []}


def _given(folder: RunFolder) -> list[Path]:
    """The first of the photos, styles and masks that a run was given."""
    return sorted((folder.path / PHOTOS).glob("*.png"))[:GIVEN_AT_MOST]


def _strips(folder: RunFolder) -> list[Path]:
    """The rows of a flow's states."""
    return [folder.image_path({"file": file}) for file in (flow.facts_of(folder.measures) or {}).get("strips") or []]


def _album(folders: Sequence[RunFolder]) -> Album:
    """Every picture of the page."""
    drawn = [folder.image_path(record) for folder in folders for record in folder.pictures]
    return album([*drawn, *(path for folder in folders for path in (*_given(folder), *_strips(folder)))])


def _grouped(pictures: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for picture in pictures:
        groups.setdefault(picture["wanted"], []).append(picture)
    return groups


def _unfinished(status: Mapping[str, Any]) -> str:
    """A line for a run that is not complete, else nothing."""
    if status["state"] == "complete":
        return ""
    of = f" after {status['pictures']} of {status['of']} pictures" if status.get("of") else ""
    state = "not finished" if status["state"] == "running" else status["state"]
    return f"{state.capitalize()}{of}" + (f": {status['message']}" if status.get("message") else "")


def _run(folder: RunFolder, label: str, place: int, kept: Album) -> dict[str, Any]:
    """Everything that the template shows of one run."""
    recipe, status, measures, records = folder.settings, folder.status, folder.measures, folder.pictures
    judges = tables.judges(measures)
    of_flow = _flow(folder, measures, kept) or next(filter(None, (kind.section(measures) for kind in ASKED)), None)
    work = work_of(recipe, measures)
    verdicts = [] if work != "drawing" and not judges else [tables.judge_table(measures), tables.image_table(measures)]
    pictures = [
        _picture(kept.embedded(folder.image_path(record)), index, record, judges)
        for index, record in enumerate(records)
    ]
    confusions = [chart for judge in judges if (chart := charts.confusion(judge, records)) is not None]
    return {
        "label": label,
        "path": folder.path.resolve(),
        "anchor": f"run-{place}",
        "sentence": sentence(folder, work),
        "work": work,
        "unfinished": _unfinished(status),
        "legend": _legend(judges),
        "given": [_plain(kept.embedded(path), path.stem) for path in _given(folder)],
        "remark": kept.remark(folder.path, f"{label}/images"),
        "groups": _grouped(pictures),
        "flow": of_flow,
        "tables": [*verdicts, tables.cost_table(measures, status, work)],
        "spectra": _spectra(measures),
        "confusions": confusions,
        "objectives": [*charts.objectives(folder.frames), *along.charts(folder)],
        "recipe": recipe,
        "status": status,
        "measures": measures,
    }


def _flow(folder: RunFolder, measures: Mapping[str, Any], kept: Album) -> dict[str, Any] | None:
    """What the template shows of a flow, or of one made a classifier; None where neither was measured."""
    if (known := classifier.facts_of(measures)) is not None:
        return {"strips": [], "depths": [], "numbers": classifier.numbers_table(known), "parts": []}
    facts = flow.facts_of(measures)
    if facts is None:
        return None
    rows = [
        _plain(kept.embedded(path, flow.strip_size), f"picture {place}")
        for place, path in enumerate(_strips(folder), start=1)
    ]
    numbers, parts = flow.numbers_table(facts), flow.parts(facts)
    return {"strips": rows, "depths": flow.depth_labels(facts), "numbers": numbers, "parts": parts}


def _spectra(measures: Mapping[str, Any]) -> list[charts.Chart]:
    """A chart of each measured set of pictures whose spectrum is known."""
    found = [charts.spectrum(key or "drawn", of.get("images") or {}) for key, of in tables.sets(measures).items()]
    return [chart for chart in found if chart is not None]


def _beside(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The runs with pictures and the classes of all, for the columns; None where there are no two."""
    drawn = [run for run in runs if run["groups"]]
    classes = list(dict.fromkeys(wanted for run in drawn for wanted in run["groups"]))
    return {"runs": drawn, "classes": classes} if len(drawn) > 1 else None


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


def render(folders: Sequence[RunFolder]) -> str:
    """The page of these runs, as HTML. Raises UserError for no run, or for one whose pictures cannot be read."""
    if not folders:
        raise UserError("report: no run folder given; type at least one")
    audits = [folder for folder in folders if audit.facts_of(folder.measures) is not None]
    if audits and len(folders) > 1:
        raise UserError(f"{audits[0].path}: an audit has a page of its own; type bothways report {audits[0].path}")
    if audits:
        return audit.render_audit(audits[0])
    kept, labels = _album(folders), _labels(folders)
    runs = [_run(folder, label, place, kept) for place, (folder, label) in enumerate(zip(folders, labels, strict=True))]
    comparisons = _comparisons(runs)
    drawn = any(found for _, found in comparisons) or any(
        run["confusions"] or run["objectives"] or (run["flow"] and run["flow"]["parts"]) for run in runs
    )
    citations = dict.fromkeys(str(entry).strip() for run in runs for entry in run["measures"].get("citations") or [])
    return filled(
        "page.html.jinja",
        title=_title([run["label"] for run in runs]),
        runs=runs,
        comparisons=comparisons,
        beside=_beside(runs),
        settings=tables.settings_tables([(run["label"], run["recipe"]) for run in runs]),
        citations=list(citations),
        charted=drawn,
    )


def _comparisons(runs: Sequence[Mapping[str, Any]]) -> list[tuple[tables.Table, list[charts.Chart]]]:
    """A table of each kind of run that there are several of, a column per run, and its charts: like beside like."""
    kinds: dict[Any, list[Mapping[str, Any]]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    return [
        (
            tables.in_columns(kind.comparison_table([(run["label"], run["measures"], run["status"]) for run in of])),
            _charts(kind, of, runs),
        )
        for kind, of in kinds.items()
        if len(of) > 1
    ]


def _charts(kind: Any, of: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> list[charts.Chart]:
    """Of classifiers; an evaluation is drawn over what was chosen for its classifier where that stands beside it."""
    settings = {
        run["path"]: compared.settings_of(run["recipe"], classifier.facts_of(run["measures"]) or {}) for run in runs
    }
    if kind is classifier:
        return compared.charts(compared.of_classifiers([(r["label"], settings[r["path"]], r["measures"]) for r in of]))
    if kind is not evaluation:
        return []
    asked = [Path(str((run["recipe"].get("model") or {}).get("address"))).resolve() for run in of]
    told = [(run["label"], settings.get(path) or {}, run["measures"]) for run, path in zip(of, asked, strict=True)]
    return compared.charts(compared.of_evaluations(told))


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
