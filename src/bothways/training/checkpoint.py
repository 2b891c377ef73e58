"""One training run on disk: frames as they come, a checkpoint every so many steps, and the way back into it.

    RUN/checkpoint.pt      network, average, optimisers and step: all that is no function of the step
    RUN/frames.jsonl       one line a step, cut after the checkpoint when the run is resumed
    RUN/along.jsonl        what is measured of a flow along the way (training/along.py), cut too
    RUN/tensorboard/       the same numbers for TensorBoard, where it was asked for

Written whole or not at all, so a kill at any moment loses the steps since the last checkpoint, which are made again to
the bit.
"""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch

from bothways.data.loader import prefetch
from bothways.runs import ALONG, RunFolder
from bothways.runs.experiment import Experiment
from bothways.runs.files import replace_file
from bothways.training.along import Along
from bothways.training.config import FitConfig, RunConfig
from bothways.training.fit import FitState, Loss, fit
from bothways.training.processes import Batches, Processes
from bothways.types import Frame, RunError, UserError

CHECKPOINT = "checkpoint.pt"
TENSORBOARD = "tensorboard"
SPEED = "images/s"  # shown while it runs, and kept out of frames.jsonl: it differs from run to run
SMOOTHED = 0.9  # share of the former speed in the one that is shown


@final
@dataclass
class Training:
    """A training and its checkpoints. ``begin`` gives it its run, ``frames`` yields a frame after every step.

    batch: step -> the tensors of the whole batch, whatever the number of processes. seed: of dropout.
    write_weights: the weights of now into a run folder, at every checkpoint. measure_along: what a line of along.jsonl
    holds, before the first step and at the checkpoints that are planned, not where the run is stopped; None for none.
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

    def begin(
        self,
        task: str,
        tables: Mapping[str, Any],
        out: str | Path | None,
        *,
        own: tuple[str, ...] = (),
        overwrite: bool = False,
        resume: bool = False,
    ) -> Experiment:
        """The run of a task, begun by the first process; the others leave writing to it.

        tables: what recipe.toml holds. own: patterns of the files that the task writes besides. With ``resume`` the
        training is at the last checkpoint. Raises UserError for what cannot be, before anything is written.
        """
        if self.run.tensorboard:
            tensorboard_writer()
        device, written = self.processes.device, (CHECKPOINT, ALONG, f"{TENSORBOARD}/events.*", *own)

        def begin() -> None:
            self.experiment = Experiment.begin(
                task, tables, out, own=written, overwrite=overwrite, resume=resume, device=device
            )

        self.processes.on_first(begin)
        if not self.processes.first:
            folder = None if out is None else RunFolder.open(out)
            self.experiment = Experiment(folder, device, silent=True)
        if resume and out is not None:
            self.resume()
        return self.experiment

    @property
    def folder(self) -> RunFolder:
        """The run folder. Raises RunError where the run was begun in none."""
        if self.experiment.folder is None:
            raise RunError("a training needs a run folder; give out=FOLDER")
        return self.experiment.folder

    @property
    def recorded_frames(self) -> list[Frame]:
        """The frames of every step so far, as the folder keeps them."""
        return [Frame(line["step"], line["t"], None, line["stats"]) for line in self.folder.frames]

    def resume(self) -> None:
        """Take up the checkpoint of the folder, where there is one."""
        path = self.folder.path / CHECKPOINT
        if not path.is_file():
            return
        try:
            self.state.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises many kinds for a file that is not its own
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} cannot be taken up ({said}); type --overwrite to begin again") from error
        self.saved = self.state.step

    def save(self) -> None:
        """Write the checkpoint, unless the last one is of this very step."""
        if not self.processes.first or self.saved == self.state.step:
            return
        self.write_weights(
            self.folder
        )  # first: a kill in between must not leave a last checkpoint beside older weights
        content = io.BytesIO()
        torch.save(self.state.state_dict(), content)
        replace_file(self.folder.path / CHECKPOINT, content.getvalue())
        self.saved = self.state.step

    def frames(self) -> Generator[Frame, None, None]:
        """Yield a frame after every step, with the speed in ``images/s``.

        Raises RunError where the loss is not finite; the last checkpoint is kept, and the line names it.
        """
        facts = self.experiment.facts
        facts |= {"step": self.state.step, "steps": self.fit.total}
        if self.processes.first:
            self.folder.drop_frames_after(0, self.state.step)
        try:
            if self.along is not None:
                self.along.begin(self.state.step)
            with closing(self._steps()) as steps:
                yield from steps
        except Exception as error:
            # torch raises the second one anywhere
            if isinstance(error, (RunError, torch.OutOfMemoryError)) or "DataLoader worker" in str(error):
                raise RunError(self._told(error)) from error
            raise
        finally:
            facts["step"] = self.state.step

    @property
    def along(self) -> Along | None:
        """The measures along the way, which the first process makes."""
        if self.measure_along is None or not self.processes.first:
            return None
        return Along(self.folder.path, self.measure_along)

    def _steps(self) -> Generator[Frame, None, None]:
        share = self.processes.share(self.batch, self.fit.batch)
        source = prefetch(share, self.state.step, self.fit.total, self.run.workers)
        frames = fit(self.state, self.loss, source, self.fit, seed=self.seed, processes=self.processes)
        with closing(frames), closing(source), self._board() as board:
            seconds, last = 0.0, time.monotonic()
            while True:
                with deferred_interrupts() as interrupts:
                    frame = next(frames, None)
                    if frame is not None:
                        self._keep(frame)
                if interrupts:
                    self.save()
                    raise KeyboardInterrupt
                if frame is None:
                    return
                now = time.monotonic()
                seconds = SMOOTHED * seconds + (1 - SMOOTHED) * (now - last) if seconds else now - last
                last = now
                shown = replace(frame, stats={**frame.stats, SPEED: self.fit.batch / seconds})
                board(shown)
                try:
                    yield shown
                except GeneratorExit:  # stopped by who looks on, between two steps
                    self.save()
                    raise

    def _keep(self, frame: Frame) -> None:
        if self.processes.first:
            self.folder.append_frame(frame, 0)
        if frame.step % self.run.save_every == 0 or frame.step == self.fit.total:
            if self.along is not None:  # before the checkpoint, as the weights are
                self.along.add(frame.step)
            self.save()

    def _told(self, error: Exception) -> str:
        text = str(error).splitlines()[0].strip() if str(error) else type(error).__name__
        if isinstance(error, torch.OutOfMemoryError):
            text = f"no memory is left for {self.fit.batch} pictures a step; type a smaller --batch"
        if self.saved is None:
            return f"{text}; there is no checkpoint yet"
        return f"{text}; the checkpoint of step {self.saved} is kept in {self.folder.path / CHECKPOINT}"

    @contextmanager
    def _board(self) -> Iterator[Callable[[Frame], object]]:
        """What writes a frame for TensorBoard; nothing where that was not asked for."""
        if not (self.run.tensorboard and self.processes.first):
            yield lambda frame: None
            return
        writer = tensorboard_writer()(str(self.folder.path / TENSORBOARD), purge_step=self.state.step + 1)
        try:
            yield lambda frame: [writer.add_scalar(name, value, frame.step) for name, value in frame.stats.items()]
        finally:
            writer.close()


def tensorboard_writer() -> Any:
    """TensorBoard's SummaryWriter. Raises UserError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError('--tensorboard needs TensorBoard; type pip install "bothways[tensorboard]"') from error
    return SummaryWriter


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted in the list and not raised, so that no step is half made; a second one is raised at once."""
    noted: list[int] = []
    former = signal.getsignal(signal.SIGINT)

    def note(number: int, stack: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, former)
