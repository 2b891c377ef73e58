"""Batches made by another process ahead of the step that needs them; a pure function of the step stays one.

    ahead(batch, k, n) = batch(k), batch(k + 1), .., batch(n - 1)

By torch.utils.data.DataLoader. So pairing by optimal transport costs the training no time, and nothing has to be kept
for a resume but the step.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from bothways.numerics.draws import generator
from bothways.types import RunError, UserError

GUARD = 'put the calls of the script below if __name__ == "__main__":, or type workers=0'


def ahead(
    batch: Callable[[int], Any], first: int, last: int, workers: int = 1, depth: int = 4
) -> Generator[Any, None, None]:
    """batch(first) .. batch(last - 1) in this order, ``depth`` of them made ahead by each worker.

    batch: step -> tensors; must be something that can be sent to a process: a function of a module, or
        ``functools.partial`` of one. workers: processes, of one thread each; 0 makes every batch when it is asked for.
    Raises RunError in one line where a batch cannot be made or sent, or a worker ends while one is waited for.
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
        made = _begun(loader)
    try:
        for found in made:
            if isinstance(found, str):
                raise RunError(found)
            yield found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        told = f"the process that makes batches ended: {str(error).splitlines()[0].strip()}"
        raise RunError(told if multiprocessing.get_start_method() == "fork" else f"{told}; {GUARD}") from error
    finally:
        del made  # ends the workers now, and not when the last traceback is forgotten


def check_guarded() -> None:
    """Raise UserError in a process that is only reading the script anew, as those started by spawn do.

    A task that began there would begin again in each process of its own, in the same run folder.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # what Python asks before it starts another
        raise UserError(f"a process started by {multiprocessing.get_start_method()!r} runs the script; {GUARD}")


def _begun(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        return iter(loader)
    except Exception as error:
        if "pickle" not in str(error).lower():  # as a process is sent what it needs
            raise
        raise RunError(f"the batches cannot be made by another process ({_line(error)}); type workers=0") from error


def _made(batch: Callable[[int], Any], step: int) -> Any:
    try:
        return batch(step)
    except Exception as error:  # comes back as a line, since the loader would send a page of traceback
        return _told(error, step)


def _told(error: Exception, step: int) -> str:
    return f"the batch of step {step + 1} could not be made: {type(error).__name__}: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _deaf_to_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the one that trains decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
