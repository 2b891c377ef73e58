"""Training runs on disk: frames, periodic checkpoints and resume.

    RUN/step-N             a copy of the card and the weights at step N, if any are kept: an address like the run
    RUN/checkpoint.pt      network, EMA, optimisers and step: all that is not a function of the step
    RUN/frames.jsonl       one line per step, truncated to the checkpoint on resume
    RUN/along.jsonl        measurements of a flow during training (training/along.py), truncated too
    RUN/tensorboard/       the same numbers for TensorBoard, if enabled

Checkpoints are written atomically, so a kill at any time loses the steps since the last one, and a resume repeats them
bit for bit.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch

from bothways.budget import no_memory_left
from bothways.data.loader import prefetch
from bothways.processes.group import Batches, Processes
from bothways.reading import is_there
from bothways.runs import RunFolder
from bothways.runs.experiment import Experiment
from bothways.runs.files import json_line, replace_file
from bothways.training.along import Along
from bothways.training.best import ACCURACY, BEST, LOSS, best_step
from bothways.training.config import FitConfig, RunConfig
from bothways.training.fit import FitState, Loss, fit, rates
from bothways.training.interrupts import deferred_interrupts
from bothways.training.trackers import Log, check_trackers, tracked
from bothways.types import Frame, RunError, UserError

CHECKPOINT = "checkpoint.pt"
SPEED = "images/s"  # shown during the run, but not in frames.jsonl: it differs between runs
SMOOTHED = 0.9  # exponential smoothing of the seconds per step


@final
@dataclass
class Training:
    """A training with its checkpoints. ``begin`` opens the run folder, ``frames`` yields a frame after every step.

    batch: step -> the tensors of the whole batch, whatever the number of processes. seed: of dropout.
    keep_every: steps between kept copies of the file ``card`` and of the weights, whose name has the same stem, with
    the files ``beside``.
    write_weights: writes the present weights to the run folder, at every checkpoint. measure_along: entries of a line
    of along.jsonl, before the first step and at scheduled checkpoints, not at an interrupt; None for none. probe:
    further entries, every ``probe_every`` steps and at the ends. best_by: the entry whose best step is kept.
    enough: step of a scheduled checkpoint -> whether training ends there, as the first process finds; None for never.
    """

    state: FitState
    fit: FitConfig
    run: RunConfig
    loss: Loss
    batch: Batches
    seed: int
    write_weights: Callable[[RunFolder], None] = lambda folder: None
    measure_along: Callable[[], dict[str, Any]] | None = None
    processes: Processes = Processes()  # noqa: RUF009 - frozen
    experiment: Experiment = field(default_factory=Experiment)
    saved: int | None = None  # the step of the last checkpoint
    enough: Callable[[int], bool] | None = None
    card: str = ""
    beside: tuple[str, ...] = ()
    keep_every: int = 0
    probe: Callable[[], dict[str, Any]] | None = None
    probe_every: int = 1
    best_by: str = ""

    def begin(
        self,
        task: str,
        tables: Mapping[str, Any],
        out: str | Path | None,
        *,
        overwrite: bool = False,
        resume: bool = False,
        prolongs: Sequence[str] = (),
    ) -> Experiment:
        """Open the run of a task in the first process, which alone writes; with ``resume`` load the last checkpoint.

        tables: the content of recipe.toml. Raises UserError for invalid input, before anything is written.
        """
        check_trackers(self.run.trackers)
        if prolongs and out is not None:
            self._check_longer(RunFolder(Path(out)))
        options: dict[str, Any] = {"overwrite": overwrite, "resume": resume, "prolongs": prolongs}
        options |= {"device": self.processes.device, "processes": self.processes}
        self.experiment = Experiment.begin(task, tables, out, **options)
        if resume and out is not None:
            self.resume()
            if prolongs and self.processes.first:
                lines = [{**line, "t": line["step"] / self.fit.total} for line in self.folder.frames]
                replace_file(self.folder.path / "frames.jsonl", b"".join(map(json_line, lines)))
        return self.experiment

    def _check_longer(self, folder: RunFolder) -> None:
        """Warn where a run that is prolonged has not the rates of a longer one. Raises UserError if it is shorter."""
        status = folder.status
        made, former = int(status.get("step", 0)), int(status.get("steps", 0))
        if self.fit.total < made:
            raise UserError(f"{folder.path}: {made} steps are made already; type --steps {made + 1}, or more")
        if former:
            before, now = rates(self.fit.model_copy(update={"steps": former})), rates(self.fit)
            if any(before(step) != now(step) for step in range(made)):
                warnings.warn(
                    f"the learning rate goes on as in a run of {self.fit.total} steps; its first {made} had the rates "
                    f"of a run of {former}, so that one run of {self.fit.total} steps would differ",
                    stacklevel=2,
                )

    @property
    def folder(self) -> RunFolder:
        """The run folder. Raises RunError for a run without one."""
        if self.experiment.folder is None:
            raise RunError("a training needs a run folder; give out=FOLDER")
        return self.experiment.folder

    @property
    def recorded_frames(self) -> list[Frame]:
        """Frames of all steps so far, from the run folder."""
        return [Frame(line["step"], line["t"], None, line["stats"]) for line in self.folder.frames]

    def resume(self) -> None:
        """Load the checkpoint of the run folder, if there is one."""
        path = self.folder.path / CHECKPOINT
        if not is_there(path):
            return
        try:
            self.state.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises exceptions of many classes for other files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} cannot be loaded ({reason}); type --overwrite to start again") from error
        self.saved = self.state.step

    def save(self) -> None:
        """Write the checkpoint, unless the last one is of the same step; all processes of a sharded one together."""
        if self.saved == self.state.step or not (self.processes.first or self.state.copy):
            return
        self.state.gather()
        state = self.state.state_dict()
        if not self.processes.first:
            self.saved = self.state.step
            return
        # weights first: a kill in between must not leave a last checkpoint beside older weights
        self.write_weights(self.folder)
        content = io.BytesIO()
        torch.save(state, content)
        replace_file(self.folder.path / CHECKPOINT, content.getvalue())
        self.saved = self.state.step

    def _save_at_stop(self) -> None:
        """Save, whatever signals follow that which stops the training."""
        with deferred_interrupts():
            self.save()

    def frames(self) -> Generator[Frame, None, None]:
        """Yield a frame after every step, with the speed in ``images/s``.

        Raises RunError if the loss is not finite; the last checkpoint is kept and named in the message.
        """
        if self.processes.first:
            self.folder.drop_frames_after(0, self.state.step)
        try:
            if self.along is not None:
                self.along.begin(self.state.step)
                if self._is_best(self.state.step):  # a kill may have come between its checkpoint and its copy
                    self._copy(BEST)
            with closing(self._steps()) as steps:
                yield from steps
        except Exception as error:
            if isinstance(error, RunError) or no_memory_left(error) or "DataLoader worker" in str(error):
                raise RunError(self._message(error)) from error
            raise
        finally:
            self.experiment.facts["step"] = self.state.step  # an interrupt comes after a step that no frame tells of

    @property
    def along(self) -> Along | None:
        """The log of measurements, which the first process writes; None without any."""
        if (self.measure_along is None and self.probe is None) or not self.processes.first:
            return None
        return Along(self.folder.path, self._measured)

    def _measured(self, step: int, planned: bool) -> dict[str, Any]:
        """The entries of a line of along.jsonl. planned: whether a checkpoint is planned at this step."""
        found = self.measure_along() if planned and self.measure_along is not None else {}
        if self.probe is not None and (step % self.probe_every == 0 or step == self.fit.total):
            found |= self.probe()
        return found

    def _is_best(self, step: int) -> bool:
        """Whether the weights of this step are the best so far on the held-out pictures."""
        if not self.best_by or self.along is None:
            return False
        return (best_step(self.along.lines, self.best_by) or (0,))[0] == step > 0

    def _steps(self) -> Generator[Frame, None, None]:
        share = self.processes.share(self.batch, self.fit.batch)
        source = prefetch(share, self.state.step, self.fit.total, self.run.workers)
        frames = fit(self.state, self.loss, source, self.fit, seed=self.seed, processes=self.processes)
        with closing(frames), closing(source), self._board() as board:
            seconds, last, late = 0.0, time.monotonic(), False
            while not self._ends():
                with deferred_interrupts() as interrupts:
                    frame = next(frames, None)
                    told = {} if frame is None else self._keep(frame)
                    ends = self.processes.any(late or bool(interrupts))  # all processes stop after the same step
                late = bool(interrupts) and not ends  # it came after they had agreed: they stop after the next one
                if ends or (late and (frame is None or self.processes.count == 1)):
                    self._save_at_stop()
                    raise KeyboardInterrupt
                if frame is None:
                    return
                now = time.monotonic()
                seconds = SMOOTHED * seconds + (1 - SMOOTHED) * (now - last) if seconds else now - last
                last = now
                shown = replace(frame, stats={**frame.stats, **told, SPEED: self.fit.batch / seconds})
                board(shown)
                try:
                    yield shown
                except GeneratorExit:  # the caller closed the generator, between two steps
                    if self.state.copy is None:  # else the others would have to save too
                        self._save_at_stop()
                    raise

    def _ends(self) -> bool:
        """Whether training ends at a checkpoint that was planned, also where a run that ended there is resumed."""
        if self.enough is None or self.state.step % self.run.save_every:
            return False
        return self.processes.any(self.processes.first and self.enough(self.state.step))

    def _keep(self, frame: Frame) -> dict[str, float]:
        """Write what a step left, and return what was measured on held-out pictures, to be shown."""
        if self.processes.first:
            self.folder.append_frame(frame, 0)
        kept = self.keep_every > 0 and frame.step % self.keep_every == 0
        planned = kept or frame.step % self.run.save_every == 0 or frame.step == self.fit.total
        sharded = self.state.copy is not None
        if sharded and planned:
            self.state.gather()
        # before the checkpoint, as the weights are; of a sharded training only where all processes gather the weights
        measures = self.along is not None and (planned or not sharded)
        line = self.along.add(frame.step, planned) if self.along is not None and measures else {}
        best = bool(line) and self._is_best(frame.step)
        if planned or best:
            self.save()
        if self.processes.first:
            for name in [f"step-{frame.step}"] * kept + [BEST] * best:
                self._copy(name)
        return {f"held-out {name}": line[name]["value"] for name in (ACCURACY, "probe") if name in line} | (
            {"held-out loss": line[LOSS]} if LOSS in line else {}
        )

    def _copy(self, name: str) -> None:
        """Keep a copy of the card, of the weights that were just saved and of what goes with them, in a folder."""
        folder = self.folder.path / name
        folder.mkdir(exist_ok=True)
        for name in (self.card, Path(self.card).with_suffix(".safetensors").name, *self.beside):
            replace_file(folder / name, (self.folder.path / name).read_bytes())

    @contextmanager
    def _board(self) -> Iterator[Log]:
        """A function that hands the numbers of a frame to the trackers; the first process alone does."""
        if not (self.run.trackers and self.processes.first):
            yield lambda frame: None
            return
        settings = self.folder.settings.get("settings", {})
        with tracked(self.run.trackers, self.folder.path, self.state.step, settings) as log:
            yield log

    def _message(self, error: Exception) -> str:
        text = str(error).splitlines()[0].strip() if str(error) else type(error).__name__
        if not isinstance(error, RunError) and no_memory_left(error):
            at_once = self.fit.batch // self.state.parts
            cure = "type a smaller --batch" if at_once > 1 else "take a smaller network, or another --device"
            text = f"out of memory with {at_once} picture{'s' * (at_once > 1)} at once; {cure}"
        if self.saved is None:
            return f"{text}; there is no checkpoint yet"
        return f"{text}; the checkpoint of step {self.saved} is kept in {self.folder.path / CHECKPOINT}"
