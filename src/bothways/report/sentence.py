"""What a run did: one word for it, which the whole page goes by, and the sentence that the page begins with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bothways.report import flow, tables
from bothways.runs import RunFolder
from bothways.tasks.curves import section as curves
from bothways.tasks.evaluate import section as evaluation
from bothways.tasks.finetune import section as classifier

WORKS = {
    "pretrain": "training",
    "finetune": "training",
    "likelihood": "measuring",
    "diagnose": "measuring",
    "demo": "measuring",
    "features": "measuring",
    "walk": "walking",
    "evaluate": "evaluation",
    "curves": "evaluation",
}


def work_of(recipe: Mapping[str, Any], measures: Mapping[str, Any]) -> str:
    """drawing, training, measuring, walking or evaluation: by the command of the run, else by what it measured."""
    work = WORKS.get(recipe.get("task") or recipe.get("settings", {}).get("command", ""))
    if work is None and evaluation.facts_of(measures) is not None:
        work = "evaluation"
    trained = any(of.facts_of(measures) is not None for of in (flow, classifier))
    return work or ("training" if trained else "drawing")


def sentence(folder: RunFolder, work: str) -> str:
    """What the run was, for example "das drew 100 pictures of 10 classes with resnet20 in 60.1 s on 3 May 2026.".

    work: as ``work_of`` has it.
    """
    recipe, status = folder.settings, folder.status
    settings, model = recipe.get("settings", recipe), recipe.get("model", {})
    task = recipe.get("task") or settings.get("command")
    who = _first(settings.get("recipe"), settings.get("method"), task, "This run")
    of_model = model if isinstance(model, str) else _first(model.get("name"), model.get("address"))
    with_model = _first(of_model, settings.get("model"))
    if work == "drawing":
        words = f"{who} {_drew(folder.pictures)}" + (f" with {with_model}" if with_model else "")
    elif work == "measuring":
        words = f"{who} measured {with_model or 'a flow'}"
    elif work == "walking":
        words = f"A picture walked to noise and back with {with_model or 'a flow'}"
    elif work == "evaluation":
        asked = evaluation.asked({"model": with_model, **(evaluation.facts_of(folder.measures) or {})})
        words = f"{who} {asked}{curves.asked(folder.measures)}"
    else:
        steps = max((int(frame["step"]) for frame in folder.frames), default=0)
        trained = with_model if with_model not in ("", who) else "a flow"
        words = f"{who} trained {trained}" + (f" for {steps:,} step{'s' if steps > 1 else ''}" if steps else "")
    words += f" in {tables.duration(status['seconds'])}" if status.get("seconds") else ""
    day = _day(status.get("started"))
    return words + (f" on {day}" if day else "") + "."


def _drew(pictures: list[dict[str, Any]]) -> str:
    classes = {record.get("class") for record in pictures} - {None}
    of = f" of {len(classes)} classes" if len(classes) > 1 else f" of {next(iter(classes))}" if classes else ""
    return f"drew {len(pictures)} picture{'s' if len(pictures) != 1 else ''}{of}"


def _first(*choices: Any) -> str:
    return next((str(choice) for choice in choices if choice not in (None, "")), "")


def _day(started: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(started))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"
