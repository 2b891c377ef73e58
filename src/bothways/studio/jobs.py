"""A queue of jobs, run one at a time in a background thread.

Jobs belong to the server, not to a page: they continue when the page is closed, and a page opened later shows them.
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
    """The prepared run of a request: the part of ``tasks.work.Work`` that a job uses."""

    @property
    def steps(self) -> int: ...

    def run(self) -> Generator[Frame, None, None]: ...

    def finish(self) -> Any: ...


class Request(Protocol):
    """The content of a submitted form.

    kind: the tab that shows the job. prepare: builds the run; may raise UserError. captions: for each batch,
    {picture number: caption}; a frame holds the pictures of its batch.
    """

    @property
    def kind(self) -> str: ...

    def prepare(self, out: Path) -> Work: ...

    def captions(self, work: Any) -> list[dict[int, str]]: ...


@dataclass
class Job:
    """A submitted request with its progress.

    name: of its run folder. notes: warnings. pictures: {number: latest state, (3,H,W)}.
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
        """Estimated seconds left, from the mean time per step; None before the first step."""
        return self.seconds / self.step * (self.total - self.step) if self.step else None

    def stop(self) -> None:
        """Stop after the current step; a waiting job stops at once."""
        if self.state == "waiting":
            self.state, self.message = "stopped", "it had not started"
        self.stopping.set()

    def run(self) -> None:
        """Run the job. Errors set its state and message; the run folder stays consistent."""
        if self.stopping.is_set():  # stopped while waiting
            return
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")  # UserWarnings become notes of the job
                self.state = "preparing"
                self._follow(self.request.prepare(self.folder), caught)
        except (UserError, RunError) as error:
            self.state, self.message = "failed", str(error)
        except Exception as error:  # a bug here or in a user's model must not end the server
            self.state, self.message = "failed", f"{type(error).__name__}: {error}"

    def _follow(self, work: Work, caught: list[warnings.WarningMessage]) -> None:
        batches = self.request.captions(work)
        self.total, self.captions = work.steps, {number: text for own in batches for number, text in own.items()}
        began, self.state = time.monotonic(), "running"
        with closing(work.run()) as frames:
            for frame in frames:
                if frame.image is not None:
                    moved = dict(zip(batches[frame.batch], frame.image.detach().cpu(), strict=True))
                    self.pictures = self.pictures | moved  # a new dict: a page may be reading the old one
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
        self.message = "work so far is saved" if stopped else ""


class Jobs:
    """The job queue of a server and its worker thread. runs: the folder of the run folders."""

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
        """The job of a kind that a newly opened page shows: the first active one, else the last one."""
        own = [job for job in self.all if job.request.kind == kind]
        return next((job for job in own if job.active), own[-1] if own else None)

    def before(self, job: Job) -> int:
        """The number of jobs ahead of this one."""
        return sum(other.active for other in self.all[: self.all.index(job)])

    def close(self) -> None:
        """Stop all jobs and wait until the worker has finished, so that every run folder is consistent."""
        for job in self.all:
            job.stop()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            job.run()


def _numbered(name: str, kind: str) -> bool:
    return name.rpartition("-")[0] == kind and name.rpartition("-")[2].isdecimal()
