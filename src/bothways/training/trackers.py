"""The numbers of every step for TensorBoard, in RUN/tensorboard, and for Weights & Biases, in RUN/wandb.

Weights & Biases writes to the disk alone unless WANDB_MODE says otherwise: ``wandb sync`` sends it later. A run that is
resumed is another one there, of the same group.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bothways.processes.quiet import keep_quiet
from bothways.runs.files import dotted
from bothways.runs.inventory import note
from bothways.types import Frame, UserError

TENSORBOARD, WANDB = "tensorboard", "wandb"
Log = Callable[[Frame], object]


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError where a library of a tracker is missing."""
    if TENSORBOARD in names:
        tensorboard_writer()
    if WANDB in names and (missing := [name for name in (WANDB, "accelerate") if not _is_there(name)]):
        raise UserError(f'--track wandb needs {" and ".join(missing)}; type pip install "bothways[wandb]"')


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # of a module without a spec, such as one made by hand
        return True


@contextmanager
def tracked(names: Sequence[str], folder: Path, step: int, settings: Mapping[str, Any]) -> Iterator[Log]:
    """A function that hands the numbers of a frame to the trackers of these names.

    step: those made already, after which earlier events are dropped. settings: of the run.
    """
    with ExitStack() as stack:
        makers: dict[str, Any] = {TENSORBOARD: _tensorboard, WANDB: _wandb}
        logs = [stack.enter_context(makers[name](folder, step, settings)) for name in names]
        yield lambda frame: [log(frame) for log in logs]


def tensorboard_writer() -> Any:
    """TensorBoard's SummaryWriter class. Raises UserError if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError('--tensorboard needs TensorBoard; type pip install "bothways[tensorboard]"') from error
    return SummaryWriter


@contextmanager
def _tensorboard(folder: Path, step: int, settings: Mapping[str, Any]) -> Iterator[Log]:
    writer = tensorboard_writer()(str(folder / TENSORBOARD), purge_step=step + 1)
    try:
        yield lambda frame: [writer.add_scalar(name, value, frame.step) for name, value in frame.stats.items()]
    finally:
        writer.close()
        for file in (folder / TENSORBOARD).glob("events.*"):
            note(file)


@contextmanager
def _wandb(folder: Path, step: int, settings: Mapping[str, Any]) -> Iterator[Log]:
    keep_quiet()
    from accelerate import PartialState
    from accelerate.tracking import WandBTracker

    PartialState()  # without which the tracker's log is refused
    name, mode = folder.resolve().name, os.environ.get("WANDB_MODE", "offline")
    tracker = WandBTracker("bothways", dir=str(folder), name=name, group=name, mode=mode)
    tracker.start()
    plain = {key: value for key, value in dotted(settings).items() if isinstance(value, str | int | float | bool)}
    tracker.store_init_configuration(plain)
    try:
        yield lambda frame: tracker.log(dict(frame.stats), step=frame.step)
    finally:
        tracker.finish()
