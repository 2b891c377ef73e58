"""Prefetching of training batches in worker processes; a batch stays a pure function of the step.

    prefetch(batch, k, n) = batch(k), batch(k + 1), .., batch(n - 1)

By torch.utils.data.DataLoader. So optimal-transport coupling runs beside the training, and a resume needs only the
step.
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


def prefetch(
    batch: Callable[[int], Any], first: int, last: int, workers: int = 1, depth: int = 4
) -> Generator[Any, None, None]:
    """Yield batch(first) .. batch(last - 1) in order, with ``depth`` batches prefetched by each worker.

    batch: step -> tensors; must be picklable: a function of a module, or ``functools.partial`` of one. workers:
        processes, of one thread each; 0 computes each batch in this process on demand.
    Raises RunError in one line if a batch fails, or if a worker is killed.
    """
    if workers == 0:
        for step in range(first, last):
            try:
                found = batch(step)
            except Exception as error:
                raise RunError(_message(error, step)) from error
            yield found
        return
    loader: DataLoader[Any] = DataLoader(
        range(first, last),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=partial(_made, batch),
        num_workers=workers,
        prefetch_factor=depth,
        worker_init_fn=_ignore_interrupts,
        generator=generator(0, first, "loader"),  # else the loader would advance the global random state
    )
    with warnings.catch_warnings():
        # forking is safe: the worker indexes, draws and pairs, and takes no lock of this process's other threads
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
        raise RunError(f"a data worker process ended: {str(error).splitlines()[0].strip()}") from error
    finally:
        del made  # end the workers now, and not when the last traceback is garbage-collected


def _made(batch: Callable[[int], Any], step: int) -> Any:
    try:
        return batch(step)
    except Exception as error:  # returned as one line, since the loader would send the whole traceback
        return _message(error, step)


def _message(error: Exception, step: int) -> str:
    return f"the batch of step {step + 1} could not be made: {type(error).__name__}: {' '.join(str(error).split())}"


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal; the training process decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
