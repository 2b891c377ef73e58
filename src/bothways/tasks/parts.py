"""A run made of named parts: each is measured by itself and kept when it is done, so that a resumed run skips it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, final

from bothways.runs.experiment import Experiment
from bothways.tasks.work import Work
from bothways.types import Frame


class Part(NamedTuple):
    """name: of the part in the run's state. measure: gives its facts, plain values that JSON can hold."""

    name: str
    measure: Callable[[], Mapping[str, Any]]


class PartedWork(Work):
    """A run whose steps are parts. A subclass gives ``parts`` and makes its measures of ``kept``.

    kept: {name of a part: its facts}, of the parts that are done; ``kept_parts`` reads those of a resumed run.
    """

    experiment: Experiment
    kept: dict[str, Any]
    doing = "measuring"
    done_word = "measured"

    @property
    @abstractmethod
    def parts(self) -> list[Part]:
        """All parts, in order; the same for every process that goes on with the run."""

    @property
    @final
    def left(self) -> list[Part]:
        """The parts that are not done."""
        return [part for part in self.parts if part.name not in self.kept]

    @property
    @final
    def steps(self) -> int:
        return len(self.parts)

    @property
    @final
    def done(self) -> int:
        return self.steps - len(self.left)

    @final
    def frames(self) -> Iterator[Frame]:
        """A frame after every part, with those of its facts that are single numbers."""
        steps, folder = self.steps, self.experiment.folder
        for name, measure in self.left:
            self.kept[name] = dict(measure())
            if folder is not None:
                folder.save_state({}, {"done": self.kept})
            numbers = {key: value for key, value in self.kept[name].items() if isinstance(value, float)}
            yield Frame(len(self.kept), len(self.kept) / steps, None, numbers)


def kept_parts(experiment: Experiment) -> dict[str, Any]:
    """The parts that an earlier process has kept in the run folder; none for a new run."""
    saved = None if experiment.folder is None else experiment.folder.load_state()
    return {} if saved is None else saved[1]["done"]


def merged(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of all parts in one table; lists of one name are joined."""
    facts: dict[str, Any] = {}
    for part in kept.values():
        for name, value in part.items():
            facts[name] = [*facts[name], *value] if name in facts else value
    return facts
