"""A queue of jobs, run one at a time, each in a process of its own that owns the run folder; a page only displays.

Jobs belong to the server, not to a page: they continue when the page is closed, and a page opened later shows them.
A thread follows the process, ends it if it is to stop or takes too long, and then records in the folder how it stands.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any, Protocol

import torch
from torch import Tensor

from bothways.runs.experiment import Experiment
from bothways.runs.numbered import next_name
from bothways.studio.child import Child, EndedError, follow, make_ready
from bothways.types import Frame, RunError, UserError

ACTIVE = ("waiting", "preparing", "running", "judging")
ENDED = ("complete", "stopped", "failed")
WAITING_AT_MOST = 20  # jobs that have not ended
KEPT = 5  # jobs of each kind that have ended, with their photos and pictures; the run folders stay
BETWEEN_LOOKS = 0.1  # seconds
KEPT_SO_FAR = "what was drawn so far is kept"


class FullError(UserError):
    """Too many jobs wait already."""


class Work(Protocol):
    """The prepared run of a request: the part of ``tasks.work.Work`` that a job uses."""

    @property
    def steps(self) -> int: ...

    def run(self) -> Generator[Frame, None, None]: ...

    def finish(self) -> Any: ...


class Request(Protocol):
    """The content of a submitted form, sent to a process. kind: the tab of the job; prepare: may raise UserError.

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

    name: of its run folder. doing: the present stage. notes: warnings. pictures: {number: latest state, (3,H,W)}.
    """

    name: str
    folder: Path
    request: Request
    state: str = "waiting"
    message: str = ""
    doing: str = ""
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    captions: Mapping[int, str] = field(default_factory=dict)
    pictures: dict[int, Tensor] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    _began: float = 0.0

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

    def run(self, minutes: float) -> None:
        """Have it done; whatever happens, the state and the message say so, and the folder is left whole."""
        self.state, began, child = "preparing", time.monotonic(), None
        try:
            child = Child()
            child.begin(follow, self.request, self.folder)
            while self.active:
                if time.monotonic() - began > 60 * minutes and not self.stopping.is_set():
                    self.message = f"{minutes:g} minutes are the most; {KEPT_SO_FAR}"
                    self.stopping.set()
                if self.stopping.is_set():
                    child.stop()
                if (heard := child.message(BETWEEN_LOOKS)) is not None:
                    self._hear(*heard)
        except EndedError as error:
            self._lost(str(error))
        finally:
            if child is not None:
                child.end()

    def _hear(self, what: str, *told: Any) -> None:
        if what == "begun":
            self.total, self.captions = told
            self._began, self.state = time.monotonic(), "running"
        elif what == "step":
            self.step, moved = told
            self.seconds = time.monotonic() - self._began
            shown = {number: torch.from_numpy(image) / 255 for number, image in moved.items()}
            self.pictures = self.pictures | shown  # a new one, since a page may be reading the old
        elif what == "doing":
            (self.doing,) = told
        elif what == "judging":
            self.state = "judging"
        elif what == "answer":
            state, self.notes = told[0]
            self._ended(state)
        else:  # refused, or stopped before there was a folder or while it was judged
            self._ended("stopped" if what == "stopped" else "failed", told[0])

    def _lost(self, how: str) -> None:
        """Say in the folder what the process could not."""
        stopped = self.stopping.is_set()
        with suppress(UserError, RunError):
            Experiment.lost(self.folder, how, stopped=stopped, seconds=self.seconds)
        self._ended("stopped" if stopped else "failed", how)

    def _ended(self, state: str, message: str = "") -> None:
        if state == "stopped":  # the message may be the limit's already
            message = self.message or KEPT_SO_FAR
        self.message = message
        self.state = state  # last: a page that sees it has ended reads the rest


class Jobs:
    """The jobs of one server, the oldest first, and the thread that has them done. runs: where their folders go.

    minutes: the most that one may take. kept: jobs of each kind that have ended and are remembered.
    ready: whether what its processes import is imported before there is a job.
    """

    def __init__(self, runs: Path, minutes: float = math.inf, *, ready: bool = False, kept: int = KEPT) -> None:
        self.runs, self.minutes, self.kept = runs, minutes, kept
        self.all: list[Job] = []
        self._waiting: Queue[Job | None] = Queue()
        self._adding = threading.Lock()
        if ready:
            make_ready()
        self._thread = threading.Thread(target=self._work, name="bothways studio", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Job:
        """Queue a request under the next free name of its kind, as ``generate-007``. Raises FullError."""
        with self._adding:
            if sum(job.active for job in self.all) >= WAITING_AT_MOST:
                raise FullError(f"{WAITING_AT_MOST} runs wait already, which are the most; stop one, or wait for one")
            name = next_name(self.runs, request.kind, [job.name for job in self.all])
            job = Job(name, self.runs / name, request)
            ended = [other.name for other in self.all if not other.active and other.request.kind == request.kind]
            self.all = [*(other for other in self.all if other.name not in ended[: -self.kept]), job]
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
            if not job.stopping.is_set():
                job.run(self.minutes)
