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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from bothways.data.loader import ahead
from bothways.runs import ALONG, RunFolder
from bothways.runs.experiment import STOPPED
from bothways.runs.files import replace_file, write_json
from bothways.runs.provenance import peak_memory
from bothways.training.along import Along
from bothways.training.fit import FitSettings, FitState, Loss, fit
from bothways.training.processes import Batches, Processes
from bothways.types import Frame, RunError, UserError

CHECKPOINT = "checkpoint.pt"
TENSORBOARD = "tensorboard"
SAVE_EVERY = 500  # steps
SPEED = "images/s"  # shown while it runs, and kept out of frames.jsonl: it differs from run to run
SMOOTHED = 0.9  # share of the former speed in the one that is shown


def training_folder(
    path: str | Path,
    tables: Mapping[str, Any],
    processes: Processes,
    *,
    own: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> RunFolder:
    """The run folder of a training, made by the first process. Raises UserError as ``RunFolder.create`` does.

    own: patterns of the files that this kind of training writes, removed with the run that ``overwrite`` replaces.
    """

    written = (CHECKPOINT, ALONG, f"{TENSORBOARD}/events.*", *own)

    def make() -> None:
        RunFolder.create(path, tables, own=written, overwrite=overwrite, resume=resume)

    processes.by_the_first(make)
    return RunFolder.open(path)


@final
@dataclass
class Training:
    """A training run. ``run`` yields a frame after every step; the checkpoint in ``folder`` is taken up by ``resume``.

    batch: step -> the tensors of the whole batch of ``pictures``, whatever the number of processes.
    at_checkpoint: what else is written then. workers: processes that make batches ahead of the steps.
    along: what is measured before the first step and at the checkpoints that are planned, not where the run is stopped.
    """

    folder: RunFolder
    state: FitState
    settings: FitSettings
    loss: Loss
    batch: Batches
    pictures: int
    at_checkpoint: Callable[[], None] = lambda: None
    save_every: int = SAVE_EVERY
    workers: int = 1
    tensorboard: bool = False
    processes: Processes = Processes()  # noqa: RUF009 - frozen
    along: Along | None = None
    saved: int | None = None  # the step of the last checkpoint

    @property
    def frames(self) -> list[Frame]:
        """Of every step so far, as the folder keeps them."""
        return [Frame(line["step"], line["t"], None, line["stats"]) for line in self.folder.frames]

    @property
    def cost(self) -> dict[str, float]:
        """Seconds and megabytes of the steps, as the folder keeps them."""
        return {key: self.folder.status[key] for key in ("seconds", "peak_mb")}

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
        self.at_checkpoint()  # first: a kill in between must not leave a last checkpoint beside older weights
        content = io.BytesIO()
        torch.save(self.state.state_dict(), content)
        replace_file(self.folder.path / CHECKPOINT, content.getvalue())
        self.saved = self.state.step

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every step, with the speed in ``images/s``. However it ends, the folder is left whole.

        Raises RunError where the loss is not finite; the last checkpoint is kept, and the line names it.
        """
        began, before = time.monotonic(), float(self.folder.status["seconds"])
        state, message = "stopped", STOPPED
        if self.processes.first:
            self.folder.drop_frames_after(0, self.state.step)
        try:
            if self.along is not None and self.processes.first:
                self.along.begin(self.state.step)
            with closing(self._steps()) as steps:
                yield from steps
            state, message = "running", ""  # what follows the steps says when all is complete
        except Exception as error:
            state, message = "failed", self._told(error)
            # torch raises the second one anywhere
            if isinstance(error, (RunError, torch.OutOfMemoryError)) or "DataLoader worker" in str(error):
                raise RunError(message) from error
            raise
        finally:
            if self.processes.first:
                facts = {"seconds": before + time.monotonic() - began, "peak_mb": peak_memory(self.processes.device)}
                self.folder.finish(state, message, **facts, step=self.state.step, steps=self.settings.steps)

    def _steps(self) -> Generator[Frame, None, None]:
        share = self.processes.share(self.batch, self.pictures)
        source = ahead(share, self.state.step, self.settings.steps, self.workers)
        frames = fit(self.state, self.loss, source, self.settings, self.processes)
        with closing(frames), closing(source), self._board() as board:
            seconds, last = 0.0, time.monotonic()
            while True:
                with held_back() as interrupts:
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
                shown = replace(frame, stats={**frame.stats, SPEED: self.pictures / seconds})
                board(shown)
                try:
                    yield shown
                except GeneratorExit:  # stopped by who looks on, between two steps
                    self.save()
                    raise

    def _keep(self, frame: Frame) -> None:
        if self.processes.first:
            self.folder.append_frame(frame, 0)
        if frame.step % self.save_every == 0 or frame.step == self.settings.steps:
            if self.along is not None and self.processes.first:  # before the checkpoint, as the weights are
                self.along.add(frame.step)
            self.save()

    def _told(self, error: Exception) -> str:
        text = str(error).splitlines()[0].strip() if str(error) else type(error).__name__
        if isinstance(error, torch.OutOfMemoryError):
            text = f"no memory is left for {self.pictures} pictures a step; type a smaller --batch"
        if self.saved is None:
            return f"{text}; there is no checkpoint yet"
        return f"{text}; the checkpoint of step {self.saved} is kept in {self.folder.path / CHECKPOINT}"

    @contextmanager
    def _board(self) -> Iterator[Callable[[Frame], object]]:
        """What writes a frame for TensorBoard; nothing where that was not asked for."""
        if not (self.tensorboard and self.processes.first):
            yield lambda frame: None
            return
        writer = tensorboard_writer()(str(self.folder.path / TENSORBOARD), purge_step=self.state.step + 1)
        try:
            yield lambda frame: [writer.add_scalar(name, value, frame.step) for name, value in frame.stats.items()]
        finally:
            writer.close()


class Plan(Protocol):
    """What ``begin_training`` asks of a plan: how to fit, by what loss, and what the run folder is told."""

    @property
    def settings(self) -> Any: ...

    @property
    def processes(self) -> Processes: ...

    @property
    def fit(self) -> FitSettings: ...

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]: ...

    def tables(self) -> dict[str, Any]: ...

    def card(self) -> dict[str, Any]: ...


def begin_training(
    plan: Plan,
    out: str | Path,
    state: FitState,
    batch: Batches,
    write_weights: Callable[[RunFolder, FitState], None],
    files: tuple[str, str],
    measure: Callable[[], dict[str, Any]],
    *,
    overwrite: bool = False,
    resume: bool = False,
    workers: int = 1,
    save_every: int = SAVE_EVERY,
    tensorboard: bool = False,
) -> Training:
    """The training of a plan in its run folder, at the last checkpoint where it is resumed.

    files: the names of the card, which is written here, and of the weights, which ``write_weights`` writes at every
    checkpoint. measure: of a line of along.jsonl, where the settings ask for ``information``.
    Raises UserError for what cannot be, before anything is written.
    """
    if workers < 0 or save_every < 1:
        raise UserError(f"--workers {workers}, --save-every {save_every}: the least are 0 and 1")
    if tensorboard:
        tensorboard_writer()
    folder = training_folder(out, plan.tables(), plan.processes, own=files, overwrite=overwrite, resume=resume)
    training = Training(
        folder, state, plan.fit, plan.loss, batch, plan.settings.batch, partial(write_weights, folder, state),
        save_every, workers, tensorboard, plan.processes,
        Along(folder.path, measure) if plan.settings.information else None,
    )  # fmt: skip
    if resume:
        training.resume()
    if plan.processes.first:
        write_json(folder.path / files[0], plan.card())
    return training


def tensorboard_writer() -> Any:
    """TensorBoard's SummaryWriter. Raises UserError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError('--tensorboard needs TensorBoard; type pip install "bothways[tensorboard]"') from error
    return SummaryWriter


@contextmanager
def held_back() -> Iterator[list[int]]:
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
