"""The interface of a prepared run: Config -> Work -> frames -> result.

work = prepare(config, Where("runs/x"))
for frame in work.run(): ...
result = work.finish()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, final

from bothways.configs import Config, spoken
from bothways.runs.experiment import Experiment
from bothways.runs.files import reason, replace_file
from bothways.types import Frame, UserError


@dataclass(frozen=True)
class Where:
    """The output of a run. out: folder, or None to write nothing. overwrite, resume: replace or continue a run."""

    out: str | Path | None = None
    overwrite: bool = False
    resume: bool = False

    def as_options(self) -> dict[str, Any]:
        """The keywords of ``Experiment.begin``."""
        return {"out": self.out, "overwrite": self.overwrite, "resume": self.resume}

    def file(self, suffix: str) -> Path | None:
        """The output file of a task that writes one file, or None. Raises UserError if it is invalid or exists."""
        if self.out is None:
            return None
        path = Path(self.out)
        if path.suffix != suffix or path.is_dir():
            raise UserError(f"--out {path}: type the name of a {suffix} file")
        if path.exists() and not self.overwrite:
            raise UserError(f"--out {path} exists already; type --overwrite, or another name")
        return path


@dataclass(frozen=True)
class Grid:
    """A table for a terminal, with a string per cell."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    title: str = ""
    caption: str = ""


class Work(ABC):
    """A prepared run. The run.py of a task defines a subclass and ``prepare(config, where)``, which returns one.

    doing, done_word: such as "walking" and "drawn", for the progress bar and the message if measuring fails.
    """

    experiment: Experiment
    doing = "working"
    done_word = "made"

    @property
    @abstractmethod
    def steps(self) -> int:
        """The number of frames of the whole run."""

    @property
    def done(self) -> int:
        """The number of frames finished by an earlier process."""
        return 0

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Do the remaining steps and yield a frame after each."""

    @abstractmethod
    def measures(self) -> dict[str, Any]:
        """The content of measures.json without the cost, after all steps."""

    def result(self, measures: dict[str, Any]) -> Any:
        """The result for a caller in Python."""
        return measures

    def cost(self) -> dict[str, float]:
        """The content of measures["cost"]."""
        return self.experiment.cost

    def plan(self) -> str:
        """A summary for a dry run."""
        return f"{self.steps} steps would be made"

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
        with self.experiment.making(), closing(_generator(self.frames())) as frames:
            yield from frames

    @final
    def finish(self) -> Any:
        """Compute and save the measures, and return the result."""
        with self.experiment.measuring(self.done_word):
            found = self.measures()
            found["cost"] = self.cost()
        self.experiment.complete(found)
        return self.result(found)


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


def perform(work: Work, on_frame: Callable[[Frame], None] | None = None) -> Any:
    """Run to the end and return the result. on_frame: called after every step; if it raises, the run stops cleanly."""
    with closing(work.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return work.finish()


def prepare(config: Config, where: Where) -> Work:
    """Prepare a run from its Config, by the ``prepare`` of its task."""
    return import_module(f"{type(config).__module__.rpartition('.')[0]}.run").prepare(config, where)


def file_tables(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings for recipe.toml, without None values."""
    return {name: spoken(value) for name, value in given.items() if value is not None}
