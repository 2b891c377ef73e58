"""Runs of named parts, each saved when it is finished, so that a resumed run skips it.

Of several processes each makes every n-th part that is left, and keeps it in a share of the run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, final

from bothways.progress import stage
from bothways.runs.experiment import Experiment
from bothways.runs.shares import name_of, states_of
from bothways.tasks.measures import DoneParts
from bothways.tasks.work import Work
from bothways.types import Frame


class Part(NamedTuple):
    """A part of a run. name: its key in the state of the run. measure: returns its results as JSON values."""

    name: str
    measure: Callable[[], Mapping[str, Any]]


class PartedWork(Work):
    """A run whose steps are parts. A subclass defines ``parts`` and computes its measures from ``kept``.

    kept: {part: results} of the finished parts; ``kept_parts`` reads those of a resumed run.
    """

    experiment: Experiment
    kept: dict[str, Any]
    doing = "measuring"
    done_word = "measured"

    @property
    @abstractmethod
    def parts(self) -> list[Part]:
        """All parts in order; equal in every process that resumes the run."""

    @property
    @final
    def left(self) -> list[Part]:
        """The unfinished parts."""
        return [part for part in self.parts if part.name not in self.kept]

    @property
    @final
    def steps(self) -> int:
        return len(self.parts)

    @property
    @final
    def done(self) -> int:
        return self.steps - len(self.left)

    @property
    @final
    def own_steps(self) -> int:
        return len(self.experiment.processes.own(self.left))

    @final
    def gather(self) -> None:
        """Take up the parts of all processes, and keep them in the run folder."""
        if not self.left:
            return
        known = kept_parts(self.experiment) | self.kept
        self.kept = {part.name: known[part.name] for part in self.parts}
        if self.experiment.folder is not None and not self.experiment.silent:
            self.experiment.folder.save_state({}, {"done": self.kept})

    @final
    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every part of this process, with its scalar results."""
        steps, processes = self.steps, self.experiment.processes
        own = processes.divided(self.left)
        folder = self.experiment.share(name_of(processes.rank)) if own else None
        for name, measure in own:
            with stage(name.rstrip("0123456789. ")):  # the parts of several numbers are one stage
                self.kept[name] = dict(measure())
            if folder is not None:
                folder.save_state({}, {"done": self.kept})
            numbers = {key: value for key, value in self.kept[name].items() if isinstance(value, float)}
            yield Frame(len(self.kept), len(self.kept) / steps, None, numbers)


def kept_parts(experiment: Experiment) -> dict[str, Any]:
    """The finished parts saved in the run folder and its shares; {} for a new run."""
    found: dict[str, Any] = {}
    for _, facts in () if experiment.folder is None else states_of(experiment.folder, DoneParts):
        found |= facts["done"]
    return found


def merged(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The results of all parts in one table; lists under the same key are joined."""
    facts: dict[str, Any] = {}
    for part in kept.values():
        for name, value in part.items():
            facts[name] = [*facts[name], *value] if name in facts else value
    return facts
