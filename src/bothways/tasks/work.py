"""The interface of a prepared run: Config -> Work -> frames -> result.

work = prepare(config, Where("runs/x"))
for frame in work.run(): ...
result = work.finish()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, final

from pydantic import BaseModel

from bothways.configs import recorded
from bothways.faults import check_kinds, users_code
from bothways.processes.group import Processes
from bothways.progress import stage
from bothways.reading import at_home, check, is_folder
from bothways.runs.citations import registry_citations
from bothways.runs.experiment import Experiment
from bothways.runs.files import check_output, plain, reason, replace_file
from bothways.runs.folder import MEASURES
from bothways.runs.inventory import RECIPE
from bothways.types import Frame, RunError, UserError


@dataclass(frozen=True)
class Where:
    """The output of a run. out: folder, or None to write nothing. overwrite, resume: replace or continue a run.

    prolongs: settings that may differ from those of the run that is resumed. processes: those that make it together.
    """

    out: str | Path | None = None
    overwrite: bool = False
    resume: bool = False
    prolongs: tuple[str, ...] = ()
    processes: Processes = Processes()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        out = (self.out, (str, Path, NoneType))
        check_kinds("a run", out=out, overwrite=(self.overwrite, bool), resume=(self.resume, bool))
        if self.out is not None:  # as a shell expands ~, though not in --out=~/runs
            object.__setattr__(self, "out", type(self.out)(at_home(self.out)))

    def begin(self, task: str, tables: Mapping[str, Any], **facts: Any) -> Experiment:
        """Begin the run of a task that several processes may share. facts: as of ``Experiment.begin``."""
        return Experiment.begin(task, tables, **self.as_options(), processes=self.processes, **facts)

    def as_options(self) -> dict[str, Any]:
        """The keywords of ``Experiment.begin``."""
        own = {"out": self.out, "overwrite": self.overwrite, "resume": self.resume}
        return own | ({"prolongs": self.prolongs} if self.prolongs else {})

    def part(self, name: str) -> Where:
        """The output of a run within this one, in a folder of its own; begun anew where it had not begun."""
        if self.out is None:
            return Where()
        out = Path(self.out) / name
        return Where(out, self.overwrite, self.resume and (out / RECIPE).is_file())

    def file(self, suffix: str, mark: bytes) -> Path | None:
        """The place of a task that writes one file, or None. mark: what every such file holds.

        Raises UserError where it cannot be, or where a file is there that is not to be replaced.
        """
        if self.out is None:
            return None
        path = Path(self.out)
        if path.suffix != suffix or is_folder(path):
            raise UserError(f"--out {path}: type the name of a {suffix} file")
        if path.exists() and not self.overwrite:
            raise UserError(f"--out {path} is there already; type --overwrite, or another name")
        check_output(path, mark)
        return path


@dataclass(frozen=True)
class Grid:
    """A table for a terminal, with a string per cell."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    caption: str = ""


class Work(ABC):
    """A prepared run. The run.py of a task defines a subclass and ``prepare(config, where)``, which returns one.

    schema: what measures.json validates as; None for a task that writes no run folder.
    doing, done_word: "walking" and "drawn", for the progress shown and for the message where measuring fails.
    choices: (kind, name, address or object) of what its config chooses from the registry, whose papers are cited.
    place: its run folder, or the file that it writes; None for nothing.
    """

    experiment: Experiment
    schema: type[BaseModel] | None = None
    doing = "working"
    done_word = "made"
    choices: Sequence[tuple[str, Any]] = ()
    place: Path | None = None

    @property
    @abstractmethod
    def steps(self) -> int:
        """The number of frames of the whole run."""

    @property
    def done(self) -> int:
        """The number of frames finished by an earlier process."""
        return 0

    @property
    def own_steps(self) -> int:
        """The number of frames that this process makes."""
        return self.steps - self.done

    @property
    def weights(self) -> Sequence[float]:
        """What each of these frames takes beside the others, for the time left; empty where all take the same."""
        return ()

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Do the remaining steps of this process's share and yield a frame after each."""

    def gather(self) -> None:  # noqa: B027 - most have nothing to gather
        """Take up from the run folder what other processes have made of it, after all frames."""

    @abstractmethod
    def measures(self) -> dict[str, Any]:
        """The content of measures.json without the cost, after all steps."""

    def result(self, measures: dict[str, Any]) -> Any:
        """The result for a caller in Python."""
        return measures

    def cost(self) -> dict[str, Any]:
        """The content of measures["cost"]."""
        return self.experiment.cost

    def plan(self) -> str:
        """A summary for a dry run."""
        return f"{self.steps} steps would be made"

    def opening(self) -> str:
        """A line before the first step, such as what a long run will take; "" for none."""
        return ""

    def summary(self, result: Any, out: Path | None) -> Iterator[str | Grid]:
        """The lines and tables of the result for a terminal."""
        return iter(())

    def page(self, out: Path | None) -> Path | None:
        """Write the report of the run folder and return its path; None without a folder."""
        if out is None:
            return None
        from bothways.report import write_report

        return write_report([out], out / "report.html")

    def as_json(self, result: Any) -> Any:
        """The value printed by ``--json``."""
        return getattr(result, "measures", result)

    def check(self, result: Any, page: Path | None) -> None:  # noqa: B027 - most have nothing to check
        """Raise RunError if the result exceeds limits set by the user. page: the report."""

    @final
    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every step; the run folder stays consistent however the run ends."""
        experiment, done = self.experiment, self.done
        making = experiment.making(self.doing, done + self.own_steps, done)
        with making as now, users_code(), closing(_generator(self.frames())) as frames:
            now.weights = self.weights
            for frame in frames:
                now.advance(values=frame.stats)
                yield frame

    @final
    def finish(self) -> Any:
        """Compute and save the measures, and return the result. Of several processes the first measures for all."""
        experiment, found = self.experiment, dict[str, Any]()

        def measure() -> None:
            experiment.merge()
            self.gather()
            found.update(self._found())

        with experiment.measuring(self.done_word), users_code():
            with stage("waiting for the other processes") if experiment.processes.count > 1 else nullcontext():
                experiment.processes.wait()
            experiment.processes.on_first(measure)
        if experiment.run is not None and not experiment.silent:
            experiment.run.done = experiment.run.total = self.steps  # those of the others too
        experiment.complete(found)
        experiment.processes.wait()
        if not experiment.processes.first and experiment.folder is not None:
            self.gather()
            found = experiment.folder.measures
        return self.result(found)

    def _found(self) -> dict[str, Any]:
        found, folder = self.measures(), self.experiment.folder
        if self.choices and "citations" in found:
            papers = registry_citations(self.choices)
            found["citations"] = list(dict.fromkeys([*found["citations"], *papers]))
        found["cost"] = self.cost()
        if self.schema is not None:
            where = "measures" if folder is None else str(folder.path / MEASURES)
            check(plain(found), self.schema, where, "nothing of it is written")
        return found


def _generator(frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    """The frames as a generator, which can be closed."""
    if isinstance(frames, Generator):
        return frames
    return (frame for frame in frames)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise UserError(f"--out {path}: {reason(error)}; choose a place that can be written") from error
    except RunError as error:  # whose cure is of a run, which can be resumed
        raise UserError(f"--out {str(error).split(';')[0]}; choose a place that can be written") from error


def perform(work: Work, on_frame: Callable[[Frame], None] | None = None) -> Any:
    """Run to the end and return the result. on_frame: called after every step; if it raises, the run stops cleanly."""
    with closing(work.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return work.finish()


def file_tables(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was given, for its recipe.toml; what was not is left out."""
    return {name: recorded(value) for name, value in given.items() if value is not None}
