"""The life cycle of a run: running, stopped, failed or complete. Only this module writes the status.

    begin -> making (the steps) -> measuring (what follows them) -> complete

Each phase is a context manager that records its end in the run folder: "stopped" for an interrupt or a closed
generator, "failed" with the message of an exception, and "running" between the phases.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from bothways.runs.folder import RunFolder
from bothways.runs.provenance import peak_memory, versions

STOPPED = "stopped before the end; type --resume to continue"


@final
@dataclass
class Experiment:
    """A run and its clock.

    folder: None if nothing is written. silent: the process leaves writing to another one. facts: further entries of the
    status, such as {"of": pictures}, which may change during the run.
    """

    folder: RunFolder | None = None
    device: str = "cpu"
    silent: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    before: float = 0.0  # seconds of finished phases, including those of earlier processes
    began: float | None = None  # start of the current phase

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
        **facts: Any,
    ) -> Experiment:
        """Begin or resume a run in the folder ``out``; None writes nothing.

        tables: the content of recipe.toml. Raises UserError as ``RunFolder.create`` does.
        """
        if out is None:
            return cls(None, device, facts=facts)
        told = {"task": task, **tables, "versions": versions()}
        folder = RunFolder.create(out, told, overwrite=overwrite, resume=resume, prolongs=prolongs)
        return cls(folder, device, facts=facts, before=float(folder.status["seconds"]))

    @staticmethod
    def lost(path: Path, how: str, *, stopped: bool, seconds: float) -> None:
        """Write how a run stands whose process is no more; nothing where it had not begun.

        how: how the process ended. stopped: whether it was to end. Raises RunError where it cannot be written.
        """
        if (path / "recipe.toml").is_file():
            state, message = ("stopped", STOPPED) if stopped else ("failed", how)
            RunFolder(path).write_status(state, message, seconds=seconds)

    @property
    def seconds(self) -> float:
        """Seconds of all phases so far, including those of a resumed process."""
        return self.before + (0.0 if self.began is None else time.monotonic() - self.began)

    @property
    def cost(self) -> dict[str, float]:
        """The cost of the run: {"seconds", "peak_mb"}."""
        return {"seconds": self.seconds, "peak_mb": peak_memory(self.device)}

    @contextmanager
    def making(self) -> Iterator[None]:
        """The context of the steps of the run."""
        with self._phase("{error}", STOPPED):
            yield

    @contextmanager
    def measuring(self, done: str = "made") -> Iterator[None]:
        """The context of the measures after the steps. done: the participle for the steps in error messages."""
        with self._phase(f"{done} but not measured ({{error}}); type --resume to continue", None):
            yield

    @contextmanager
    def _phase(self, failed: str, stopped: str | None) -> Iterator[None]:
        self.began = time.monotonic()
        state, message = "running", ""
        try:
            yield
        except Exception as error:
            state, message = "failed", failed.format(error=error)
            raise
        except BaseException as error:
            state, message = "stopped", stopped or failed.format(error=error)
            raise
        finally:
            self.before, self.began = self.seconds, None
            self._write(state, message)

    def complete(self, measures: Mapping[str, Any] | None = None) -> None:
        """Write the measures, if given, and set the status to complete."""
        if self.folder is not None and not self.silent and measures is not None:
            self.folder.write_measures(measures)
        self._write("complete", "")

    def _write(self, state: str, message: str) -> None:
        if self.folder is not None and not self.silent:
            self.folder.write_status(state, message, **self.cost, **self.facts)
            if state != "running":
                self.folder.release()
