"""The report section of each task: the module ``bothways.tasks.<folder of the task>.section``.

A module defines any of the functions of ``Section``; the defaults are those of a task that draws pictures and measures
nothing. The task is read from recipe.toml, so a new task needs no registration here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

from pydantic import BaseModel

from bothways import registry
from bothways.reading import check, used
from bothways.report.charts import Chart, objectives
from bothways.report.parts import Facts, Part
from bothways.report.tables import Table, cost_of, name, time
from bothways.runs import RunFolder
from bothways.runs.folder import MEASURES

TASKS = Path(registry.__file__).parent / "tasks"


class Section(Protocol):
    """The functions of a section. measures: the content of measures.json, any part of which may be missing."""

    schema: type[BaseModel] | None
    """What measures.json holds."""

    work: str
    """The kind of work in one word: drawing, training, measuring, ..."""

    def sentence_of(self, run: Run) -> str:
        """Describe the run without its time and date: "das drew 100 pictures of 10 classes with resnet20"."""

    def section(self, measures: Facts) -> Facts | None:
        """The first block: {"numbers": Table, "parts": [Part], "strips": [file], "depths": [label]}, or None.

        strips: picture files of the run folder, each a row of states; depths: the labels above the states.
        """

    def tables_of(self, measures: Facts) -> list[Table]:
        """The tables below the pictures."""

    def parts_of(self, run: Run) -> list[Part]:
        """The charts below those tables."""

    def progress_of(self, run: Run) -> list[Chart]:
        """The charts over the steps."""

    def calls_of(self, measures: Facts, place: int, record: Facts) -> list[dict[str, Any]]:
        """The prediction of each judge for a picture: {"judge", "name", "hit", "confidence", "short"}."""

    def legend_of(self, measures: Facts) -> list[dict[str, Any]]:
        """{"judge", "gave_gradient"} of each judge, in the order of ``calls_of``."""

    def chances_of(self, measures: Facts, place: int, record: Facts) -> list[dict[str, Any]] | None:
        """The probability of the target class by each judge, {"judge", "gave_gradient", "share", "name"}; [] for none.

        For a picture without a target, share and name are those of the predicted class; else name is "". A share is
        None where the judge has no such class. None for a task whose pictures are on no contact sheet.
        """

    def comparison_table(self, runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
        """A table with a row per run. runs: (name, measures, status). Tasks with the same function share a table."""

    def charts_of(self, runs: Sequence[Run], beside: Sequence[Run]) -> list[Chart]:
        """Comparison charts of several runs. beside: all runs of the page, including those of other tasks."""

    def choices_of(self, run: Run) -> dict[str, Any]:
        """The settings of the run over which ``charts_of`` plots."""

    def page_of(self, folder: RunFolder) -> str | None:
        """The HTML of a page that replaces the report, or None."""


@dataclass(frozen=True)
class Run:
    """The content of a run folder. label: its name on the page; the other fields are the content of its files."""

    folder: RunFolder
    label: str
    section: Section
    recipe: Facts
    status: Facts
    measures: Facts
    frames: Sequence[dict[str, Any]]
    pictures: Sequence[dict[str, Any]]

    @classmethod
    def read(cls, folder: RunFolder, label: str = "") -> Run:
        """Read a run folder. Raises UserError if a file cannot be read."""
        recipe = folder.settings
        measures, section = measures_of(folder), section_of(recipe["task"])
        return cls(folder, label, section, recipe, folder.status, measures, folder.frames, folder.pictures)

    @property
    def who(self) -> str:
        """The name of the recipe, or of the task if there is none."""
        return str(self.recipe.get("settings", {}).get("recipe") or self.recipe["task"])

    @property
    def model(self) -> str:
        """The name or address of the model; "" if there is none."""
        facts = self.recipe.get("model", {})
        return str(facts.get("name") or facts.get("address") or self.recipe.get("settings", {}).get("model") or "")

    @property
    def steps(self) -> int:
        """The number of the last step."""
        return max((int(frame["step"]) for frame in self.frames), default=0)


def measures_of(folder: RunFolder) -> dict[str, Any]:
    """The measures of a run, with the types that the schema of its task says; parts of them may be missing.

    Raises UserError that names the file and the key.
    """
    schema, found = section_of(folder.settings["task"]).schema, folder.measures
    if schema is not None:
        check(found, schema, str(folder.path / MEASURES), partly=True)
    return found


def fitting(*folders: RunFolder) -> AbstractContextManager[None]:
    """The context of what is made of the measures of runs. Raises UserError as ``reading.used`` does."""
    return used(*(folder.path / MEASURES for folder in folders))


def measured(run: Run) -> str:
    """The description of a run that measured a flow."""
    return f"{run.who} measured {run.model or 'a flow'}"


# ---- a task that draws pictures and measures nothing ---------------------------------------------------------------


def _sentence(run: Run) -> str:
    count, classes = len(run.pictures), {record.get("class") for record in run.pictures} - {None}
    layer = run.recipe.get("drawn", {}).get("layer")
    several = f"{len(classes)} channels of {layer}" if layer else f"{len(classes)} classes"
    of = f" of {several}" if len(classes) > 1 else f" of {next(iter(classes))}" if classes else ""
    drew = f"{run.who} drew {count} picture{'s' if count != 1 else ''}{of}"
    return drew + (f" with {run.model}" if run.model else "")


def _comparison(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    rows = [[name(label), time(cost_of(measures, status).get("seconds"))] for label, measures, status in runs]
    return Table("Side by side", ["Run", "Time"], rows)


def _nothing(*given: Any) -> Any:
    return None


def _none(*given: Any) -> list[Any]:
    return []


DEFAULT: dict[str, Any] = {
    "schema": None,
    "work": "drawing",
    "sentence_of": _sentence,
    "section": _nothing,
    "tables_of": _none,
    "parts_of": _none,
    "progress_of": lambda run: objectives(run.frames),
    "calls_of": _none,
    "legend_of": _none,
    "chances_of": _nothing,
    "comparison_table": _comparison,
    "charts_of": _none,
    "choices_of": lambda run: {},
    "page_of": _nothing,
}


@cache
def section_of(task: str) -> Section:
    """The section of a task by its command; the default for a task without one."""
    entry = registry.entries("task").get(task)
    room = entry.module.split(".")[-2] if entry else task
    place = f"bothways.tasks.{room}.section"
    own = import_module(place) if (TASKS / room / "section.py").is_file() else None
    return cast(Section, SimpleNamespace(**{key: getattr(own, key, usual) for key, usual in DEFAULT.items()}))
