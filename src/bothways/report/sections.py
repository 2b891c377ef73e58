"""What the report asks of the task of a run: its section, the module ``bothways.tasks.<folder of the task>.section``.

A module defines what it needs of ``Section``; what it leaves out is that of a task that draws pictures and measures
nothing. It is found by the key "task" of recipe.toml, so that a new task needs no line here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

from bothways import registry
from bothways.report.charts import Chart, objectives
from bothways.report.parts import Facts, Part
from bothways.report.tables import Table, cost_of, name, time
from bothways.runs import RunFolder

TASKS = Path(registry.__file__).parent / "tasks"


class Section(Protocol):
    """The functions of a section. measures: of measures.json, any part of which may be missing."""

    work: str
    """What the run did, in one word: drawing, training, measuring, ..."""

    def sentence_of(self, run: Run) -> str:
        """What the run was, up to its time and day: "das drew 100 pictures of 10 classes with resnet20"."""

    def section(self, measures: Facts) -> Facts | None:
        """What stands first: {"numbers": Table, "parts": [Part], "strips": [file], "depths": [label]}, or nothing.

        strips: pictures of the run folder, each a row of states; depths: what stands above the states.
        """

    def tables_of(self, measures: Facts) -> list[Table]:
        """The tables below the pictures."""

    def parts_of(self, run: Run) -> list[Part]:
        """The charts below those tables."""

    def progress_of(self, run: Run) -> list[Chart]:
        """The charts over the steps."""

    def calls_of(self, measures: Facts, place: int, record: Facts) -> list[dict[str, Any]]:
        """What stands under a picture: {"judge", "name", "hit", "confidence", "short"} of each judge."""

    def legend_of(self, measures: Facts) -> list[dict[str, Any]]:
        """{"judge", "gave_gradient"} of each judge, in the order of ``calls_of``."""

    def comparison_table(self, runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
        """One row a run, of several. runs: (name, measures, status). Tasks that share this are compared together."""

    def charts_of(self, runs: Sequence[Run], beside: Sequence[Run]) -> list[Chart]:
        """The charts of several runs. beside: all runs of the page, of other tasks too."""

    def choices_of(self, run: Run) -> dict[str, Any]:
        """What was chosen for the run, by which ``charts_of`` places it."""

    def page_of(self, folder: RunFolder) -> str | None:
        """A page of the task's own in place of all this, as HTML."""


@dataclass(frozen=True)
class Run:
    """A run folder, read. label: its name on the page; recipe, status, measures, frames, pictures: of its files."""

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
        """Raises UserError for a file that cannot be read."""
        recipe = folder.settings
        section = section_of(str(recipe["task"]))
        return cls(folder, label, section, recipe, folder.status, folder.measures, folder.frames, folder.pictures)

    @property
    def who(self) -> str:
        """The recipe, else the task."""
        return str(self.recipe.get("settings", {}).get("recipe") or self.recipe["task"])

    @property
    def model(self) -> str:
        """The name or address of the model, "" where there is none."""
        facts = self.recipe.get("model", {})
        return str(facts.get("name") or facts.get("address") or self.recipe.get("settings", {}).get("model") or "")

    @property
    def steps(self) -> int:
        """The last step made."""
        return max((int(frame["step"]) for frame in self.frames), default=0)


def measured(run: Run) -> str:
    """The sentence of a run that measured a flow."""
    return f"{run.who} measured {run.model or 'a flow'}"


# ---- a task that draws pictures and measures nothing ---------------------------------------------------------------


def _sentence(run: Run) -> str:
    count, classes = len(run.pictures), {record.get("class") for record in run.pictures} - {None}
    of = f" of {len(classes)} classes" if len(classes) > 1 else f" of {next(iter(classes))}" if classes else ""
    drew = f"{run.who} drew {count} picture{'s' if count != 1 else ''}{of}"
    return drew + (f" with {run.model}" if run.model else "")


def _comparison(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    rows = [[name(label), time(cost_of(measures, status).get("seconds"))] for label, measures, status in runs]
    return Table("Side by side", ["Run", "Time"], rows)


def _nothing(*given: Any) -> Any:
    return None


def _none(*given: Any) -> list[Any]:
    return []


DEFAULT = {
    "work": "drawing",
    "sentence_of": _sentence,
    "section": _nothing,
    "tables_of": _none,
    "parts_of": _none,
    "progress_of": lambda run: objectives(run.frames),
    "calls_of": _none,
    "legend_of": _none,
    "comparison_table": _comparison,
    "charts_of": _none,
    "choices_of": lambda run: {},
    "page_of": _nothing,
}


@cache
def section_of(task: str) -> Section:
    """The section of a task by its command; the default's for one that has none."""
    entry = registry.entries("task").get(task)
    room = entry.module.split(".")[-2] if entry else task
    place = f"bothways.tasks.{room}.section"
    own = import_module(place) if (TASKS / room / "section.py").is_file() else None
    return cast(Section, SimpleNamespace(**{key: getattr(own, key, usual) for key, usual in DEFAULT.items()}))
