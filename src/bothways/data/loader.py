"""Prefetching of training batches in worker processes; a batch stays a pure function of the step.

    prefetch(batch, k, n) = batch(k), batch(k + 1), .., batch(n - 1)

By torch.utils.data.DataLoader. So optimal-transport coupling runs beside the training, and a resume needs only the
step.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from bothways.data.rows.skipping import noting, tell, tell_count
from bothways.numerics.draws import generator
from bothways.types import RunError, UserError

GUARD = 'put the calls of the script below if __name__ == "__main__":, or type workers=0'


def prefetch(
    batch: Callable[[int], Any], first: int, last: int, workers: int = 1, depth: int = 4
) -> Generator[Any, None, None]:
    """Yield batch(first) .. batch(last - 1) in order, with ``depth`` batches prefetched by each worker.

    batch: step -> tensors; must be picklable: a function of a module, or ``functools.partial`` of one. workers:
        processes, of one thread each; 0 computes each batch in this process on demand.
    A picture that could not be read (rows/skipping.py) is a warning; the number of them follows at the end.
    Raises RunError in one line if a batch fails or cannot be sent, or if a worker is killed.
    """
    told: dict[str, str] = {}
    source = _in_line(batch, first, last) if workers == 0 else _ahead(batch, first, last, workers, depth)
    try:
        with closing(source):
            for made in source:
                if isinstance(made, Passed):
                    tell(made.skipped, told)
                    made = made.found
                yield made
    finally:
        tell_count(told)


class Passed(NamedTuple):
    """A batch beside which pictures could not be read, {name: why}."""

    found: Any
    skipped: dict[str, str]


def _in_line(batch: Callable[[int], Any], first: int, last: int) -> Generator[Any, None, None]:
    for step in range(first, last):
        try:
            found = _noted(batch, step)
        except Exception as error:
            raise RunError(_message(error, step)) from error
        yield found


def _ahead(batch: Callable[[int], Any], first: int, last: int, workers: int, depth: int) -> Generator[Any, None, None]:
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
        made = _begun(loader)
    processes = list(getattr(made, "_workers", ()))
    try:
        for found in made:
            if isinstance(found, str):
                raise RunError(found)
            yield found
    except (RuntimeError, ConnectionError, EOFError) as error:  # the latter of a batch whose memory went with it
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        message = f"a data worker process ended: {_line(error) or 'its pipe is closed'}"
        raise RunError(message if multiprocessing.get_start_method() == "fork" else f"{message}; {GUARD}") from error
    finally:  # end the workers now, and not when the last traceback is garbage-collected
        with suppress(RuntimeError):  # that one was killed may be told as late as here
            getattr(made, "_shutdown_workers", bool)()
        del made
        for process in processes:  # one that hangs, which ignored the SIGTERM of the loader
            if process.is_alive():
                process.kill()


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
        return _noted(batch, step)
    except Exception as error:  # returned as one line, since the loader would send the whole traceback
        return _message(error, step)


def _noted(batch: Callable[[int], Any], step: int) -> Any:
    with noting() as skipped:
        found = batch(step)
    return Passed(found, skipped) if skipped else found


def _message(error: Exception, step: int) -> str:
    return f"the batch of step {step + 1} could not be made: {type(error).__name__}: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM; the training process decides when to stop, and saves what it has first.

    A terminal, ``timeout``, torchrun and the scheduler of a cluster send them to every process of a run, some twice.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
