"""One run from its beginning to its end: begun or resumed, stopped, failed, or complete. Nothing else writes a status.

    begin -> making (the steps) -> measuring (what follows them) -> complete

Each phase is a context. However it is left, the run folder says how: "stopped" for an interrupt or a generator that
was closed, "failed" with the message of an exception, and "running" between the phases.
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

STOPPED = "stopped before the end; type --resume to go on"


@final
@dataclass
class Experiment:
    """A run and its clock. folder: None where nothing is written. silent: of a process that leaves writing to another.

    facts: what the status holds besides, such as {"of": pictures}; they may change while the run goes on.
    """

    folder: RunFolder | None = None
    device: str = "cpu"
    silent: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    before: float = 0.0  # seconds of the phases that have ended, in earlier processes too
    began: float | None = None  # when the phase that is under way began

    @classmethod
    def begin(
        cls,
        task: str,
        tables: Mapping[str, Any],
        out: str | Path | None,
        *,
        own: Sequence[str] = (),
        overwrite: bool = False,
        resume: bool = False,
        device: str = "cpu",
        **facts: Any,
    ) -> Experiment:
        """The run of a task in the folder ``out``, or in none. tables: what its recipe.toml holds.

        own: patterns of the files that it writes besides. Raises UserError as ``RunFolder.create`` does.
        """
        if out is None:
            return cls(None, device, facts=facts)
        told = {"task": task, **tables, "versions": versions()}
        folder = RunFolder.create(out, told, own, overwrite=overwrite, resume=resume)
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
        """Of all phases so far, of an earlier process that was resumed too."""
        return self.before + (0.0 if self.began is None else time.monotonic() - self.began)

    @property
    def cost(self) -> dict[str, float]:
        """{"seconds", "peak_mb"}."""
        return {"seconds": self.seconds, "peak_mb": peak_memory(self.device)}

    @contextmanager
    def making(self) -> Iterator[None]:
        """Inside, the steps of the run."""
        with self._phase("{error}", STOPPED):
            yield

    @contextmanager
    def measuring(self, done: str = "made") -> Iterator[None]:
        """Inside, what follows the steps: verdicts and measures. done: what the steps have done, for the message."""
        with self._phase(f"{done} but not measured ({{error}}); type --resume to go on", None):
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
        """Write what was measured, where it is given, and that the run is complete."""
        if self.folder is not None and not self.silent and measures is not None:
            self.folder.write_measures(measures)
        self._write("complete", "")

    def _write(self, state: str, message: str) -> None:
        if self.folder is not None and not self.silent:
            self.folder.write_status(state, message, **self.cost, **self.facts)
