"""Work in a process of its own, so that nothing that a model does stops the server: it is told to end, then made to.

The process runs only those Python files that its parent may run. On Linux it is forked from one that has imported what
all need and has done nothing else, since most of the time to start goes into imports; elsewhere it starts from nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from importlib import import_module
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bothways import registry
from bothways.progress import Ledger, every, listening
from bothways.types import RunError, UserError

PATIENCE = 5.0  # seconds from being told to end to being interrupted
GRACE = 15.0  # and from there to being killed: a state and a page are written meanwhile
BETWEEN_FRAMES = 0.1  # seconds
BETWEEN_STAGES = 0.5  # seconds
ANSWER_WITHIN = 120.0  # seconds that a form waits for a model to be read
IMPORTED_AHEAD: tuple[str, ...] = (
    "bothways.tasks.generate.run",
    "bothways.tasks.photos.run",
    "bothways.tasks.walk.run",
)
IMPORTED_AHEAD += ("bothways.studio.models", "bothways.report")
IMPORTED_AHEAD += ("torch._dynamo",)  # torch imports it at the first gradient by torch.func, for most of a second
FORKS = sys.platform == "linux"  # elsewhere libraries that are loaded do not bear a fork
ROOM = 75  # bytes of the name of the temporary folder, below which the fork server's socket still has a name


class EndedError(Exception):
    """The process is no more, and has said nothing. The text says how it ended."""


def forks() -> bool:
    """Whether a process is forked from one that has imported everything; else it is spawned, which takes longer."""
    return FORKS and len(os.fsencode(tempfile.gettempdir())) <= ROOM


def make_ready() -> None:
    """Start the process that the others are forked from, and do not wait for what it imports.

    It has one thread, and an interrupt from the terminal does not end it. It ends with this process.
    """
    if not forks():
        return
    from multiprocessing import forkserver  # which is not there on every system

    get_context("forkserver").set_forkserver_preload(list(IMPORTED_AHEAD))
    resource_tracker.ensure_running()  # first: it lets interrupts through when it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as the process that is started has it
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """The process, seen from the server. It does one piece of work, and ends. Raises EndedError where none starts."""

    def __init__(self) -> None:
        context = get_context("forkserver" if forks() else "spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, registry.allowed_addresses()), name="bothways run"
        )
        try:
            make_ready()
            self._process.start()
        except (OSError, EOFError) as error:
            self._line.close()
            raise EndedError(f"no process can be started: {error}") from error
        finally:
            theirs.close()
        self._told: float | None = None  # when it was told to end
        self._interrupted = False
        atexit.register(self.end)

    def begin(self, function: Callable[..., Any], *args: Any) -> None:
        """Let it do ``function(*args, line)``; both are sent, so the function has a name in a module."""
        with suppress(OSError):  # it is no more; whoever waits for a message is told
            self._line.send((function, args))

    def message(self, seconds: float) -> tuple[Any, ...] | None:
        """What it says next, or None where it says nothing for so long. Raises EndedError."""
        try:
            return self._line.recv() if self._line.poll(seconds) else None
        except (EOFError, OSError) as error:
            self._process.join(GRACE)
            raise EndedError(f"its process ended with exit code {self._process.exitcode}") from error

    def stop(self) -> None:
        """Tell it to end after this step. Called again and again, it interrupts it, and at last kills it."""
        if self._told is None:
            self._told = time.monotonic()
            with suppress(OSError):
                self._line.send("stop")
        waited = time.monotonic() - self._told
        if waited > PATIENCE and not self._interrupted:
            self._interrupted = True
            self._process.terminate()
        if waited > PATIENCE + GRACE:
            self._kill()

    def end(self) -> None:
        """Let it go, whatever it does."""
        atexit.unregister(self.end)
        self._line.close()
        self._process.join(0.5)
        self._kill()
        self._process.join()

    def _kill(self) -> None:
        if self._process.is_alive() and self._process.pid is not None:
            if hasattr(os, "killpg"):  # with those that it started
                with suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()


class Line:
    """The way back, seen from the process. stopping: set when it was told to end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._telling = threading.Lock()
        self.stopping = threading.Event()

    def tell(self, *message: Any) -> None:
        """Raises OSError where no one listens any more."""
        with self._telling:
            self._connection.send(message)

    def listen(self) -> None:
        """Wait to be told to end. A server that is no more wants nothing either: then everything ends."""
        try:
            self._connection.recv()
            self.stopping.set()
            self._connection.recv()
        except (EOFError, OSError):
            self.stopping.set()
            signal.raise_signal(signal.SIGTERM)
            time.sleep(GRACE)
            os._exit(1)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _serve(connection: Connection, allowed: frozenset[str] | None) -> None:
    """The life of the process."""
    if hasattr(os, "setsid"):
        os.setsid()  # an interrupt from the terminal is the server's, which tells its own
    signal.signal(signal.SIGTERM, _interrupt)
    if FORKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # Forks would all draw the same: of the generators of a process only this one is not seeded anew at a fork.
        np.random.set_state(np.random.RandomState().get_state())
    registry.allow_only(allowed)
    try:
        for module in IMPORTED_AHEAD:
            import_module(module)
        function, args = connection.recv()
    except (EOFError, OSError, KeyboardInterrupt):
        return
    line = Line(connection)
    threading.Thread(target=line.listen, daemon=True).start()
    try:
        last = ("answer", function(*args, line))
    except (UserError, RunError) as error:
        last = ("refused", str(error))
    except KeyboardInterrupt:
        last = ("stopped", "")
    except BaseException as error:  # SystemExit in a user's own file too: the page says it, the server goes on
        last = ("refused", f"{type(error).__name__}: {error}")
    with suppress(OSError, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing is left to be interrupted
        line.tell(*last)


def answer(function: Callable[..., Any], *args: Any, seconds: float = ANSWER_WITHIN) -> Any:
    """``function(*args)`` in a process of its own. Raises UserError where that does, or where it takes too long."""
    child, until = None, time.monotonic() + seconds
    try:
        child = Child()
        child.begin(_alone, function, args)
        while (found := child.message(0.2)) is None:
            if time.monotonic() > until:
                raise UserError(f"no answer in {seconds:.0f} seconds, so it was ended; try a smaller model")
    except EndedError as error:
        raise UserError(str(error)) from error
    finally:
        if child is not None:
            child.end()
    if found[0] != "answer":
        raise UserError(found[1])
    return found[1]


def _alone(function: Callable[..., Any], args: Sequence[Any], _line: Line) -> Any:
    return function(*args)


def follow(request: Any, folder: Path, line: Line) -> tuple[str, tuple[str, ...]]:
    """Do what a request asks for, and say so at every step; ("complete" or "stopped", what was warned of)."""
    from bothways.report import write_report

    ledger = Ledger()

    def tell() -> None:
        with suppress(OSError):
            line.tell("doing", "".join(map(str, ledger.shown()[-1:])))

    with warnings.catch_warnings(record=True) as caught, listening(ledger), every(BETWEEN_STAGES, tell):
        warnings.simplefilter("default")  # told on the page; what libraries say to programmers is left out
        work = request.prepare(folder)
        batches = request.captions(work)
        line.tell("begun", work.steps, {number: text for own in batches for number, text in own.items()})
        stopped = _watched(work, batches, line)
        if not stopped:
            line.tell("judging")
            work.finish()
        write_report([folder], folder / "report.html")
    notes = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning)))
    return "stopped" if stopped else "complete", notes


def _watched(work: Any, batches: Sequence[dict[int, str]], line: Line) -> bool:
    """Make the steps; whether they were stopped. Pictures go in eight bits, ten times a second at most."""
    moved: dict[int, np.ndarray] = {}
    made, said = 0, -BETWEEN_FRAMES
    try:
        with closing(work.run()) as frames:
            for made, frame in enumerate(frames, 1):
                if frame.image is not None:
                    pictures = (255 * frame.image.detach().cpu().float()).round().clamp(0, 255).byte().numpy()
                    moved |= dict(zip(batches[frame.batch], pictures, strict=True))
                due = time.monotonic() - said >= BETWEEN_FRAMES
                line.tell("step", made, moved if due else {})
                if due:
                    moved, said = {}, time.monotonic()
                if line.stopping.is_set():
                    break
    except KeyboardInterrupt:
        return True
    line.tell("step", made, moved)  # those that were not due
    return line.stopping.is_set()
