"""Long work, one job at a time, in a thread of its own that owns the run folder; a page only watches.

A job lives in the server, not in the page: closing the page changes nothing, and a page that is opened later finds it.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any, Protocol

from torch import Tensor

from bothways.report import write_report
from bothways.types import Frame, RunError, UserError

ACTIVE = ("waiting", "preparing", "running", "judging")


class Work(Protocol):
    """What a request has become when nothing can be refused any more: a ``tasks.work.Work``."""

    @property
    def steps(self) -> int: ...

    def run(self) -> Generator[Frame, None, None]: ...

    def finish(self) -> Any: ...


class Request(Protocol):
    """What a form asks for. kind: which tab watches it; prepare: may raise UserError.

    captions: of each batch its pictures by number, and what stands under each; a frame shows those of its batch.
    """

    @property
    def kind(self) -> str: ...

    def prepare(self, out: Path) -> Work: ...

    def captions(self, work: Any) -> list[dict[int, str]]: ...


@dataclass
class Job:
    """One request on its way. name: of its run folder. notes: what was warned of.

    pictures: the last seen of each, (3,H,W), by number.
    """

    name: str
    folder: Path
    request: Request
    state: str = "waiting"
    message: str = ""
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    captions: Mapping[int, str] = field(default_factory=dict)
    pictures: dict[int, Tensor] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def left(self) -> float | None:
        """Seconds to the last step, by the mean of those made; None before the first."""
        return self.seconds / self.step * (self.total - self.step) if self.step else None

    def stop(self) -> None:
        """Ask it to end after the step that is being made; one that waits ends at once."""
        if self.state == "waiting":
            self.state, self.message = "stopped", "it had not begun"
        self.stopping.set()

    def run(self) -> None:
        """Do it; whatever happens, the state and the message say so, and the folder is left whole."""
        if self.stopping.is_set():  # before it began
            return
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")  # told on the page; what libraries say to programmers is left out
                self.state = "preparing"
                self._follow(self.request.prepare(self.folder), caught)
        except (UserError, RunError) as error:
            self.state, self.message = "failed", str(error)
        except Exception as error:  # a fault of ours or of a user's own model: the page says it, the server goes on
            self.state, self.message = "failed", f"{type(error).__name__}: {error}"

    def _follow(self, work: Work, caught: list[warnings.WarningMessage]) -> None:
        batches = self.request.captions(work)
        self.total, self.captions = work.steps, {number: text for own in batches for number, text in own.items()}
        began, self.state = time.monotonic(), "running"
        with closing(work.run()) as frames:
            for frame in frames:
                if frame.image is not None:
                    moved = dict(zip(batches[frame.batch], frame.image.detach().cpu(), strict=True))
                    self.pictures = self.pictures | moved  # a new one, since a page may be reading the old
                self.step += 1
                self.seconds = time.monotonic() - began
                if self.stopping.is_set():
                    break
        stopped, self.state = self.stopping.is_set(), "judging"
        if not stopped:
            work.finish()
        write_report([self.folder], self.folder / "report.html")
        self.notes = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning)))
        self.state = "stopped" if stopped else "complete"
        self.message = "what was drawn so far is kept" if stopped else ""


class Jobs:
    """The jobs of one server, the oldest first, and the thread that does them. runs: where their folders go."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.all: list[Job] = []
        self._waiting: Queue[Job | None] = Queue()
        self._adding = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="bothways studio", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Job:
        """Queue a request under the next free name of its kind, such as ``generate-007``."""
        with self._adding:
            taken = {path.name for path in self.runs.glob(f"{request.kind}-*")} | {job.name for job in self.all}
            number = 1 + max((int(n.rpartition("-")[2]) for n in taken if _numbered(n, request.kind)), default=0)
            name = f"{request.kind}-{number:03d}"
            job = Job(name, self.runs / name, request)
            self.all.append(job)
        self._waiting.put(job)
        return job

    def find(self, name: str) -> Job | None:
        return next((job for job in self.all if job.name == name), None)

    def latest(self, kind: str) -> Job | None:
        """What a page that is opened now shows: the job at work or the next to be, else the last one."""
        own = [job for job in self.all if job.request.kind == kind]
        return next((job for job in own if job.active), own[-1] if own else None)

    def before(self, job: Job) -> int:
        """How many jobs come first."""
        return sum(other.active for other in self.all[: self.all.index(job)])

    def close(self) -> None:
        """Stop everything and wait for it: every run folder is then whole."""
        for job in self.all:
            job.stop()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            job.run()


def _numbered(name: str, kind: str) -> bool:
    return name.rpartition("-")[0] == kind and name.rpartition("-")[2].isdecimal()
