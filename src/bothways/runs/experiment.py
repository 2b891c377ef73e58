"""The life cycle of a run: running, stopped, failed or complete. Only this module writes the status.

    begin -> making (the steps) -> measuring (what follows them) -> complete

Each phase is a context manager that records its end in the run folder: "stopped" for an interrupt or a closed
generator, "failed" with the message of an exception, and "running" between the phases. While a phase goes on, the
status says every second what is being done: the stage, its steps, and the seconds of every stage so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from bothways.processes.group import Processes
from bothways.processes.watch import LostError
from bothways.progress import Ledger, Stage, every, listening, unfinished
from bothways.runs.folder import RunFolder
from bothways.runs.provenance import peak_memory, versions
from bothways.runs.shares import absorb, remove_shares, share_of
from bothways.types import RunError, UserError

SECONDS_BETWEEN_WRITES = 1.0  # of the status, while the run goes on
EARLIER = "earlier"  # the stage of seconds of which no more is known
STOPPED = "stopped before the end; type --resume to continue"


@final
@dataclass
class Experiment:
    """A run and its clock.

    folder: None if nothing is written. silent: the process leaves writing to another one. facts: further entries of the
    status, such as {"of": pictures}, which may change during the run. stages: {stage: seconds} of finished phases,
    including those of earlier processes. processes: those that make the run together.
    """

    folder: RunFolder | None = None
    device: str = "cpu"
    silent: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    phase: Ledger | None = None  # the current phase
    run: Stage | None = None  # the steps of the run
    processes: Processes = Processes()  # noqa: RUF009 - frozen

    @classmethod
    def begin(
        cls,
        task: str,
        tables: Mapping[str, Any],
        out: str | Path | None,
        *,
        overwrite: bool = False,
        resume: bool = False,
        prolongs: Sequence[str] = (),
        device: str = "cpu",
        processes: Processes | None = None,
        **facts: Any,
    ) -> Experiment:
        """Begin or resume a run in the folder ``out``; None writes nothing. Of several processes the first does.

        tables: the content of recipe.toml. Raises UserError as ``RunFolder.create`` does.
        """
        if out is None:
            return cls(None, device, facts=facts)
        told = {"task": task, **tables, "versions": versions()}
        made: list[RunFolder] = []

        def create() -> None:
            made.append(RunFolder.create(out, told, overwrite=overwrite, resume=resume, prolongs=prolongs))
            absorb(made[0])

        processes = processes or Processes()
        processes.on_first(create)
        folder = made[0] if made else RunFolder.open(out)
        options: dict[str, Any] = {"silent": not processes.first, "processes": processes}
        return cls(folder, device, facts=facts, stages=_stages_of(folder), **options)

    @staticmethod
    def lost(path: Path, how: str, *, stopped: bool, seconds: float) -> None:
        """Write how a run stands whose process is no more; nothing where it had not begun.

        how: how the process ended. stopped: whether it was to end. seconds: of the whole run, if more than its status
        says. Raises RunError where it cannot be written.
        """
        if (path / "recipe.toml").is_file():
            folder = RunFolder(path)
            state, message = ("stopped", STOPPED) if stopped else ("failed", how)
            stages = _stages_of(folder)
            unknown = seconds - sum(stages.values())
            last = (folder.status.get("doing") or {}).get("name") or EARLIER
            stages |= {last: stages.get(last, 0.0) + unknown} if unknown > 0 else {}
            folder.write_status(state, message, seconds=sum(stages.values()), stages=stages, doing=None)

    def prepared(self, stages: Mapping[str, float]) -> None:
        """Add the seconds, by stage, of the preparation of the run, which comes before its folder."""
        self.stages = _added(self.stages, stages)

    def share(self, name: str) -> RunFolder | None:
        """Where this process writes a part of the work: the run folder, or of several processes a share of it."""
        return self.folder if self.folder is None or self.processes.count == 1 else share_of(self.folder, name)

    def merge(self) -> None:
        """Bring the shares of all processes into the run folder, in the first process."""
        if self.folder is not None and not self.silent:
            absorb(self.folder)

    @property
    def cost(self) -> dict[str, Any]:
        """The cost of the run so far: {"seconds", "peak_mb", "stages": {stage: seconds}}.

        It includes earlier processes, and the seconds are the sum of those of all stages.
        """
        stages = self.stages if self.phase is None else _added(self.stages, self.phase.seconds)
        return {"seconds": sum(stages.values()), "peak_mb": peak_memory(self.device), "stages": stages}

    @contextmanager
    def making(self, doing: str = "working", steps: int = 0, done: int = 0) -> Iterator[Stage]:
        """The context of the steps of the run. doing: their name. done: of an earlier process."""
        self.run = Stage(doing, steps, done, done)
        with self._phase(self.run, "{error}", STOPPED):
            yield self.run

    @contextmanager
    def measuring(self, done: str = "made") -> Iterator[None]:
        """The context of the measures after the steps. done: the participle for the steps in error messages."""
        with self._phase(Stage("measuring"), f"{done} but not measured ({{error}}); type --resume to continue", None):
            yield

    @contextmanager
    def _phase(self, of: Stage, failed: str, stopped: str | None) -> Iterator[None]:
        self.phase = ledger = Ledger()
        state, message = "running", ""
        try:
            with self._with_others(), listening(ledger), unfinished(of), self._told():
                yield
        except Exception as error:
            state, message = "failed", failed.format(error=error)
            raise
        except BaseException as error:
            state, message = "stopped", stopped or failed.format(error=str(error) or "stopped")
            raise
        finally:
            self.stages, self.phase = _added(self.stages, ledger.seconds), None
            self._write(state, message)

    @contextmanager
    def _with_others(self) -> Iterator[None]:
        """The context in which the other processes hear of the end of this one, and this one of theirs."""
        if self.processes.watch is not None:
            self.processes.watch.at_the_end = lambda said: self._write("failed", said)
        try:
            with self.processes.told():
                yield
        except LostError as error:
            if self.silent and error.speaks and self.folder is not None:  # the first is lost, which else writes
                with suppress(RunError, UserError):
                    Experiment.lost(self.folder.path, str(error), stopped=False, seconds=0.0)
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The context in which the status says what is being done."""
        if self.folder is None or self.silent:
            yield
            return

        def write() -> None:
            with suppress(RunError, UserError):  # what the run itself writes next says so
                self._write("running", "")

        write()
        with every(SECONDS_BETWEEN_WRITES, write):
            yield

    def complete(self, measures: Mapping[str, Any] | None = None) -> None:
        """Write the measures, if given, and set the status to complete."""
        if self.folder is not None and not self.silent and measures is not None:
            self.folder.write_measures(measures)
        self._write("complete", "")
        if self.folder is not None and not self.silent:
            remove_shares(self.folder)

    def _write(self, state: str, message: str) -> None:
        if self.folder is not None and not self.silent:
            self.folder.write_status(state, message, **{**self.cost, **self._progress(), **self.facts})
            if state != "running":
                self.folder.release()

    def _progress(self) -> dict[str, Any]:
        """The entries of the status on the steps of the run and on the present stage."""
        shown = [] if self.phase is None else self.phase.shown()
        steps = {} if self.run is None else {"step": self.run.done, "steps": self.run.total}
        last = shown[-1].stage if shown else None
        return {**steps, "doing": last and {"name": last.name, "done": last.done, "total": last.total}}


def _stages_of(folder: RunFolder) -> dict[str, float]:
    """The seconds by stage of a run folder; those of a run that says only their sum are of an earlier process."""
    status = folder.status
    return dict(status.get("stages") or ({EARLIER: float(status["seconds"])} if status["seconds"] else {}))


def _added(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: first.get(name, 0.0) + second.get(name, 0.0) for name in (*first, *second)}
