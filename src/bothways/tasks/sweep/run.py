"""Run a task once for every combination of the values of some of its settings.

OUT/NAME-VALUE_NAME-VALUE/   the run folder of a combination, as the task writes it
OUT/measures.json            "sweep": the numbers of every run, and their means over seeds
OUT/report.html              them as charts and a table

A run that fails does not end the others. With --resume the finished ones stay, the rest are begun or go on, and those
that failed are tried again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, final

from bothways import registry
from bothways.brief import Kept, stand_in
from bothways.configs import Config, merged, nested
from bothways.data.loader import check_guarded
from bothways.data.readers.live import is_live
from bothways.data.sources import as_set
from bothways.faults import check_kinds, told
from bothways.reading import is_there, used
from bothways.runs import RunFolder
from bothways.runs.experiment import Experiment
from bothways.runs.files import read_json
from bothways.runs.inventory import RECIPE, check_place
from bothways.runs.numbered import RUNS, behind_latest, newest_folder
from bothways.runs.schema import Given
from bothways.tasks import resume as starts
from bothways.tasks import work as works
from bothways.tasks.resume import GIVEN, WORDS
from bothways.tasks.sweep.config import SWEEP, Point, SweepConfig, lists_of, plain_tables, points_of, shortened
from bothways.tasks.sweep.numbers import groups_of, headlines_of, written
from bothways.tasks.sweep.result import SweepMeasures
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, RunError, UserError


@final
@dataclass
class SweepWork(Work):
    """A sweep. points: its runs, in order. where: the folder that holds theirs.

    made: the runs that were done in this process. failed: {name of a run: why it failed}.
    """

    config: SweepConfig
    points: list[Point]
    where: Where
    experiment: Experiment
    made: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    schema = SweepMeasures
    doing = "sweeping"
    done_word = "run"

    @property
    def steps(self) -> int:
        return len(self.points)

    @property
    def done(self) -> int:
        return sum(map(self._is_complete, self.points))

    @property
    def kind(self) -> type[Config]:
        """The Config of the task."""
        return registry.find("task", self.config.task).factory

    def frames(self) -> Iterator[Frame]:
        """Do the runs that are not complete, and yield a frame after each, failed ones too."""
        step = self.done
        for out in [self._folder(point) for point in self.points if self._is_complete(point)]:
            if out is not None and not is_there(out / "report.html"):  # killed, or without room, after the run itself
                from bothways.report import write_report

                write_report([out], out / "report.html")
        for point in [point for point in self.points if not self._is_complete(point)]:
            self._make(point)
            step += 1
            headlines = headlines_of(self.kind, self._measures(point))
            yield Frame(step, step / self.steps, None, {name: one["value"] for name, one in headlines.items()})

    def _make(self, point: Point) -> None:
        """Do a run to its end. What fails in it is noted in its folder, and does not end the sweep."""
        out = self._folder(point)
        again = out is not None and (out / RECIPE).is_file()
        place = Where(out, again and not self.where.resume, again and self.where.resume)
        self.failed.pop(point.name, None)
        self.made.add(point.name)
        try:
            _, work = starts.begin(self.config.task, point.given, place, default=False)
            works.perform(work)
            work.page(out)
        except Exception as error:  # of any class: an error in one run says nothing of the others
            self.failed[point.name] = str(error) if isinstance(error, UserError | RunError) else told(error)

    def _folder(self, point: Point) -> Path | None:
        return None if self.where.out is None else Path(self.where.out) / point.name

    def _is_complete(self, point: Point) -> bool:
        """Whether its run is complete; what an earlier sweep left counts with ``resume`` alone."""
        out = self._folder(point)
        if out is None or not (out / RECIPE).is_file() or not (self.where.resume or point.name in self.made):
            return False
        return RunFolder.open(out).status["state"] == "complete"

    def measures(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        papers: list[str] = []
        for point in self.points:
            measures = self._measures(point)
            row: dict[str, Any] = {"folder": point.name, "settings": point.settings, "state": "complete"}
            if point.name in self.failed or not measures:
                row |= {"state": "failed", "message": self.failed.get(point.name, "it has no measures")}
            else:
                row["numbers"] = headlines_of(self.kind, measures)
            rows.append(row)
            papers += measures.get("citations") or []
        failed = sum(row["state"] == "failed" for row in rows)
        groups = groups_of(rows, self.kind.shares)
        facts = {"task": self.config.task, "over": self.config.over, "runs": rows, "groups": groups}
        return {SWEEP: {**facts, "failed": failed}, "citations": list(dict.fromkeys(papers))}

    def _measures(self, point: Point) -> dict[str, Any]:
        """The measures of a run that is complete; {} of any other."""
        out = self._folder(point)
        return RunFolder.open(out).measures if out is not None and self._is_complete(point) else {}

    def result(self, measures: dict[str, Any]) -> dict[str, Any]:
        return measures[SWEEP]

    def plan(self) -> str:
        names = [point.name for point in self.points]
        return f"{len(names)} runs of bothways {self.config.task} would be made: {', '.join(names)}"

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        groups = result["groups"]
        titles = list(dict.fromkeys(title for group in groups for title in group["numbers"]))
        short = shortened(self.points[0].settings)
        rows = [
            (
                ", ".join(f"{short[place]} {written(v)}" for place, v in group["settings"].items()) or "all",
                *(_cell(group["numbers"].get(title)) for title in titles),
                f"{group['n']} ({group['over']})",
            )
            for group in groups
        ]
        if rows:
            yield Grid(("setting", *titles, "runs (95 % interval over)"), rows)
        yield from (f"{row['folder']} failed: {row['message']}" for row in result["runs"] if row["state"] == "failed")

    def check(self, result: dict[str, Any], page: Path | None) -> None:
        if result["failed"]:
            raise RunError(
                f"{result['failed']} of {self.steps} runs of the sweep failed; what they lack is said above and in "
                f"{'the report' if page is None else page}, and --resume tries them again"
            )


def _cell(number: Mapping[str, Any] | None) -> str:
    if number is None:
        return "not measured"
    low, high = number.get("low"), number.get("high")
    return f"{number['value']:.4g}" + ("" if low is None else f" ({low:.4g} to {high:.4g})")


# ---- how a sweep begins --------------------------------------------------------------------------------------------


def prepare(config: SweepConfig, where: Where) -> SweepWork:
    """Prepare a sweep. Raises UserError for invalid settings of any of its runs, before the first one."""
    kind: type[Config] = registry.find("task", config.task).factory
    points = points_of(kind, config.given, config.over)
    over = {name: [point.settings[name] for point in points] for name in points[0].settings}
    settings: dict[str, Any] = {
        "task": config.task,
        "over": {name: [value for k, value in enumerate(v) if value not in v[:k]] for name, v in over.items()},
        "given": plain_tables(nested(kind, config.given)),
    }
    grown = replace(where, prolongs=_grown(where, settings["over"]))
    experiment = Experiment.begin(SWEEP, {"settings": settings}, **grown.as_options())
    return SweepWork(config.model_copy(update={"over": settings["over"]}), points, where, experiment)


def _grown(where: Where, over: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The settings of a sweep that goes on which have all their former values, and may have more."""
    if not where.resume or where.out is None:
        return ()
    before = RunFolder.open(where.out).settings.get("settings", {}).get("over", {})
    return tuple(f"over.{name}" for name, values in over.items() if all(v in values for v in before.get(name, ())))


def begin_sweep(
    task: str, given: Mapping[str, Any], over: Mapping[str, Sequence[Any]], where: Where, *, default: bool
) -> tuple[SweepConfig, SweepWork]:
    """The settings and the work of a sweep; with ``resume`` those that it began with.

    given: what a caller sets for every run, by name. over: {setting: values}; {} with ``resume``. default: whether a
    sweep without ``out`` gets the next of runs/TASK-sweep-001, -002, ...
    """
    kind: type[Config] = registry.find("task", task).factory
    if not kind.headlines:
        able = [name for name in registry.names("task") if registry.find("task", name).factory.headlines]
        raise UserError(f"bothways {task} has no --sweep; type one of {', '.join(able)}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a sweep runs in one process; type it without torchrun")
    if where.overwrite and where.resume:
        raise UserError("--overwrite and --resume contradict each other; type one of them")
    tables = nested(kind, {name: behind_latest(stand_in(value)) for name, value in given.items()})
    numbered, name = default and where.out is None, f"{task}-{SWEEP}"
    if numbered and where.overwrite:
        raise UserError("--overwrite replaces the sweep of a folder; type --out FOLDER, or leave it out for a new one")
    if numbered and where.resume:
        if (newest := newest_folder(RUNS, name)) is None:
            raise UserError(f"no sweep of bothways {task} is in {RUNS}; type --out FOLDER, or leave --resume out")
        where = replace(where, out=newest)
    if where.resume and where.out is not None:
        tables, over = _resumed(task, kind, tables, over, Path(where.out))
    made = SweepConfig(task=task, over=lists_of(over), given=tables)
    saved = {"task": task, "over": made.over, "given": tables}

    def begun(where: Where) -> tuple[SweepConfig, SweepWork]:
        work = starts.prepare(made, where, saved)
        assert isinstance(work, SweepWork)
        return work.config, work

    return starts.in_next_folder(name, where, begun) if numbered and not where.resume else begun(where)


def is_sweep(folder: Path | None) -> bool:
    """Whether a folder holds a sweep."""
    return folder is not None and (folder / RECIPE).is_file() and RunFolder.open(folder).settings["task"] == SWEEP


def _resumed(
    task: str, kind: type[Config], given: dict[str, Any], over: Mapping[str, Sequence[Any]], folder: Path
) -> tuple[dict[str, Any], Mapping[str, Sequence[Any]]]:
    """The settings of a sweep that goes on, and its axes. What is set again is compared when its folder is opened."""
    check_place(folder, resume=True)
    saved = read_json(folder / GIVEN, Given)
    if is_sweep(folder) and not saved:  # killed between the two: what is typed is compared with the recipe
        if over:
            return given, over
        raise UserError(f"{folder}: had not begun when it was killed; type its whole command again, with --resume")
    if not is_sweep(folder):
        raise UserError(f"{folder}: is not the folder of a sweep; leave --sweep out, or type the folder of one")
    before = saved["settings"]
    if before["task"] != task:
        raise UserError(f"{folder}: a sweep of bothways {before['task']}; type bothways {before['task']} --resume")
    for address in registry.addresses_in(before, without=WORDS):
        registry.refuse_code(address, str(folder / GIVEN))
    now = {"given": given, "over": over}
    if missing := [name for name in saved["objects"] if not _has(now, name.split(".")) and not over]:
        raise UserError(f"{folder}: {missing[0]} was a Python object when this sweep began; give it again to resume")
    with used(folder / GIVEN, named=True):
        return merged(before.get("given", {}), given), over or before["over"]


def _has(tables: Any, place: Sequence[str]) -> bool:
    for part in place:
        if not isinstance(tables, Mapping) or part not in tables:
            return False
        tables = tables[part]
    return True


def sweep(
    task: str,
    *given: Any,
    over: Mapping[str, Sequence[Any]] | None = None,
    out: Any = None,
    overwrite: bool = False,
    resume: bool = False,
    on_frame: Callable[[Frame], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Run a task once for every combination of the values of some settings -> measures["sweep"].

    task: "finetune", "pretrain", "train", "evaluate" or "likelihood". given, settings: those of its function.
    over: {setting: values}, such as {"beta": [0, 1, 10], "seed": [0, 1, 2]}; None with ``resume``. Numbers are means
    over the runs that differ in the seed alone, with Student's 95 % interval over them; of a single run, with its own.
    out: the folder, the next of runs/TASK-sweep-001 and so on if None. on_frame: called with the Frame of every run.
    A run that fails is counted in "failed", and does not end the others. Raises UserError for invalid settings.
    """
    check_guarded()
    check_kinds("sweep", task=(task, str), over=(over, (Mapping, NoneType)), on_frame=(on_frame, (Callable, NoneType)))
    kind: type[Config] = registry.find("task", task).factory
    named = {**dict(zip(kind.order(), given, strict=False)), **settings}
    if is_live(named.get("data")) and not isinstance(named["data"], Kept):
        named["data"] = as_set(named["data"])
    _, work = begin_sweep(task, named, over or {}, Where(out, overwrite, resume), default=True)
    found: dict[str, Any] = works.perform(work, on_frame)
    work.page(work.place)
    return found
