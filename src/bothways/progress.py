"""Progress of long work: whoever works says what is being done, and whoever shows or records it listens.

    with stage("judging", total=3) as now:      # the worker
        now.advance()
    for chunk in counted(chunks, "reading pictures"): ...

    with listening(Ledger()) as ledger: ...     # the listener: the command line, a run folder, the studio

Stages may lie within stages; without a listener nothing happens.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


class Beforehand(UserWarning):
    """A warning that the command line shows before the work and not after it: one may want to stop it."""


@dataclass(eq=False)
class Stage:
    """A piece of work. total: number of its steps, 0 if there is nothing to count. done: finished steps.

    first: steps finished by an earlier process, which tell nothing of the speed. values: numbers of the last step.
    weights: what each step after those takes beside the others; empty where all take the same.
    """

    name: str
    total: int = 0
    done: int = 0
    first: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    weights: Sequence[float] = ()

    def advance(self, number: int = 1, values: Mapping[str, float] | None = None) -> None:
        """Count ``number`` further steps."""
        self.done += number
        if values is not None:
            self.values = values


@dataclass(frozen=True)
class Timed:
    """An unfinished stage with the seconds since it began. moved: of these, those until its last step was made."""

    stage: Stage
    seconds: float
    moved: float | None = None

    @property
    def left(self) -> float | None:
        """Estimated seconds left from the mean time of the steps that were made, by their weights.

        A step that takes longer than they say leaves only those after it. None before the first step, and where nothing
        is known of the last.
        """
        made, rest = self.stage.done - self.stage.first, self.stage.total - self.stage.done
        if not self.stage.total or made < 1:
            return None
        passed, (now, after) = float(made), (1.0, max(0.0, rest - 1.0)) if rest > 0 else (0.0, 0.0)
        if sum((weights := self.stage.weights)[:made]):
            passed, now, after = sum(weights[:made]), sum(weights[made : made + 1]), sum(weights[made + 1 :])
        moved = self.seconds if self.moved is None else self.moved
        waited = self.seconds - moved
        if waited <= (each := moved / passed) * now:
            return each * (now + after) - waited
        return self.seconds / (passed + now) * after or None

    def __str__(self) -> str:
        steps = f", {self.stage.done} of {self.stage.total}" if self.stage.total else ""
        return self.stage.name + steps


@dataclass(eq=False)
class _Open:
    """An unfinished stage as a ledger saw it: when it began, and when its last step was seen."""

    stage: Stage
    began: float
    done: int
    moved: float

    def timed(self, now: float) -> Timed:
        if self.done != self.stage.done:
            self.done, self.moved = self.stage.done, now
        return Timed(self.stage, now - self.began, self.moved - self.began)


class Ledger:
    """A listener that knows the unfinished stages, and the seconds that each stage took without those within it.

    clock: seconds, as ``time.monotonic``. It may be read from another thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._open: list[_Open] = []
        self._spent: dict[str, float] = {}
        self._since = clock()
        self._lock = threading.Lock()

    def begin(self, stage: Stage) -> None:
        with self._lock:
            self._charge()
            self._open.append(_Open(stage, self._since, stage.done, self._since))

    def end(self, stage: Stage) -> None:
        with self._lock:
            self._charge()
            self._open = [one for one in self._open if one.stage is not stage]

    def _charge(self) -> None:
        """Add the time since the last change to the innermost stage; outside all stages it counts for none."""
        now = self.clock()
        if self._open:
            name = self._open[-1].stage.name
            self._spent[name] = self._spent.get(name, 0.0) + now - self._since
        self._since = now

    @property
    def seconds(self) -> dict[str, float]:
        """{stage: seconds} so far, those of unfinished stages included; the sum is the time within any stage."""
        with self._lock:
            self._charge()
            return dict(self._spent)

    def unfinished(self) -> list[Timed]:
        """The unfinished stages, the innermost last."""
        now = self.clock()
        return [one.timed(now) for one in list(self._open)]

    def shown(self) -> list[Timed]:
        """The unfinished stages that say most: those with steps to count, and the innermost; a name once."""
        found = self.unfinished()
        telling = [one for one in found if one.stage.total or one is found[-1]]
        return list({one.stage.name: one for one in reversed(telling)}.values())[::-1]


class _Listeners(threading.local):
    """The listeners of this thread. A data worker's process or thread has none, so it reports nothing."""

    def __init__(self) -> None:
        self.all: tuple[Ledger, ...] = ()


_here = _Listeners()
if hasattr(os, "register_at_fork"):  # a child has no use for the listeners, whose locks another thread may hold
    os.register_at_fork(after_in_child=lambda: setattr(_here, "all", ()))


@contextmanager
def listening(ledger: Ledger) -> Iterator[Ledger]:
    """The context in which ``ledger`` hears of the stages of this thread."""
    _here.all = (*_here.all, ledger)
    try:
        yield ledger
    finally:
        _here.all = tuple(one for one in _here.all if one is not ledger)


@contextmanager
def stage(name: str, total: int = 0, done: int = 0) -> Iterator[Stage]:
    """The context of a piece of work. total: number of steps, 0 for none to count. done: of an earlier process."""
    made = Stage(name, total, done, done)
    with unfinished(made):
        yield made


@contextmanager
def unfinished(made: Stage) -> Iterator[None]:
    """The context in which the listeners know ``made`` as unfinished."""
    heard = _here.all
    for ledger in heard:
        ledger.begin(made)
    try:
        yield
    finally:
        for ledger in heard:
            ledger.end(made)


def counted(items: Iterable[Item], name: str, total: int | None = None) -> Iterator[Item]:
    """The items, as steps of a stage. total: their number; None for that of a sequence, or for an unknown one."""
    if total is None:
        total = len(items) if isinstance(items, Sequence) else 0
    with stage(name, total) as now:
        for item in items:
            yield item
            now.advance()


@contextmanager
def every(seconds: float, function: Callable[[], object]) -> Iterator[None]:
    """The context in which another thread calls ``function`` every so many seconds."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            function()

    thread = threading.Thread(target=repeat, name="bothways progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
