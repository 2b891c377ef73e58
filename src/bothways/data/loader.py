"""Batches made by another process ahead of the step that needs them; a pure function of the step stays one.

    ahead(batch, k, n) = batch(k), batch(k + 1), .., batch(n - 1)

By torch.utils.data.DataLoader. So pairing by optimal transport costs the training no time, and nothing has to be kept
for a resume but the step.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from bothways.numerics.draws import generator
from bothways.types import RunError


def ahead(
    batch: Callable[[int], Any], first: int, last: int, workers: int = 1, depth: int = 4
) -> Generator[Any, None, None]:
    """batch(first) .. batch(last - 1) in this order, ``depth`` of them made ahead by each worker.

    batch: step -> tensors; must be something that can be sent to a process: a function of a module, or
        ``functools.partial`` of one. workers: processes, of one thread each; 0 makes every batch when it is asked for.
    Raises RunError in one line where a batch cannot be made, or where a worker is killed while one is waited for.
    """
    if workers == 0:
        for step in range(first, last):
            try:
                found = batch(step)
            except Exception as error:
                raise RunError(_told(error, step)) from error
            yield found
        return
    loader: DataLoader[Any] = DataLoader(
        range(first, last),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=partial(_made, batch),
        num_workers=workers,
        prefetch_factor=depth,
        worker_init_fn=_deaf_to_interrupts,
        generator=generator(0, first, "loader"),  # else the loader draws from the caller's random state
    )
    with warnings.catch_warnings():
        # the worker takes no lock of this process's other threads: it indexes, draws and pairs
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        made = iter(loader)
    try:
        for found in made:
            if isinstance(found, str):
                raise RunError(found)
            yield found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(f"the process that makes batches ended: {str(error).splitlines()[0].strip()}") from error
    finally:
        del made  # ends the workers now, and not when the last traceback is forgotten


def _made(batch: Callable[[int], Any], step: int) -> Any:
    try:
        return batch(step)
    except Exception as error:  # comes back as a line, since the loader would send a page of traceback
        return _told(error, step)


def _told(error: Exception, step: int) -> str:
    return f"the batch of step {step + 1} could not be made: {type(error).__name__}: {' '.join(str(error).split())}"


def _deaf_to_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the one that trains decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
