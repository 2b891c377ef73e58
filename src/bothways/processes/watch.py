"""Whether the other processes of a run are there: what each says of itself in the launcher's store of keys.

    at/RANK     where it runs: machine and number of the process
    beat/RANK   a number that grows every second, by a thread of its own
    end/RANK    why it ended: "ended", "stopped", "refused: ..." or "failed: ..."; one that is killed says nothing

A process of the same machine is looked up there, so that its loss is known within a second; one of another machine is
lost when it was silent for a minute. The thread interrupts the work of this process, as Ctrl-C does, when one is lost.
"""

from __future__ import annotations

import _thread
import atexit
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as distributed

from bothways.types import RunError

BEAT = 1.0  # seconds between two signs of life
SILENT = 60.0  # seconds after which a process of another machine is lost
TO_HEAR = 15.0  # seconds in which a process that is stopped hears why
TO_END = 30.0  # seconds between the interrupt and the end of a process that does not heed it, as in a call of a card
FAREWELL = 5.0  # seconds for which the first process, which may hold the store, waits for the others at its end
STOPPED, ENDED = "stopped", "ended"
KEPT = "what was finished is kept; type --resume, with any number of processes"
BROKEN = re.compile(r"gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe|socket", re.IGNORECASE)


class LostError(RunError):
    """Another process of the run is lost. speaks: whether this process is the one that says so."""

    def __init__(self, said: str, speaks: bool) -> None:
        super().__init__(said)
        self.speaks = speaks


def ended_by_another(error: BaseException) -> bool:
    """Whether an error may have come from another process: an interrupt, or a broken connection."""
    if isinstance(error, RunError):
        return False
    told = isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and BROKEN.search(str(error)))
    return bool(told) or isinstance(error, KeyboardInterrupt | GeneratorExit)


class Watch:
    """The ties of this process to the others. Raises RuntimeError where one does not come within ``seconds``."""

    def __init__(self, store: Any, rank: int, count: int, seconds: float) -> None:
        self.rank, self.count, self._store = rank, count, store
        self._met, self._beats, self._left, self._gone = 0, 0, False, False
        self._places = dict[int, tuple[str, int]]()
        self._heard: dict[int, tuple[str, float]] = {}  # the last beat of each, and when it was new
        self.at_the_end: Callable[[str], object] = lambda said: None  # where the work cannot be interrupted
        self.put(f"at/{rank}", f"{_machine()} {os.getpid()}")
        self._places = {other: self._place(other, time.monotonic() + seconds) for other in range(count)}
        self.beat()
        self._over, self._heeded, self._lock = threading.Event(), False, threading.Lock()
        self._thread = threading.Thread(target=self._go_on, name="bothways watch", daemon=True)
        self._thread.start()
        atexit.register(self._farewell)

    # ---- the store -------------------------------------------------------------------------------------------------

    def store(self, name: str) -> Any:
        """A part of the store, for a process group."""
        return distributed.PrefixStore(name, self._store)

    def put(self, key: str, value: str) -> None:
        self._ask(self._store.set, key, value)

    def get(self, key: str) -> str:
        return self._ask(self._store.get, key).decode()

    def has(self, key: str) -> bool:
        return bool(self._ask(self._store.check, [key]))

    def _ask(self, call: Callable[..., Any], *given: Any) -> Any:
        """What the store answers. Raises LostError where it is gone, once and for all."""
        try:
            if not self._gone:
                return call(*given)
        except RuntimeError:
            self._gone = True
        raise LostError(self._without_store(), self.speaks())

    def next_meeting(self) -> int:
        """The number of a meeting, which is the same in all processes."""
        self._met += 1
        return self._met

    def _place(self, rank: int, until: float) -> tuple[str, int]:
        while not self._store.check([f"at/{rank}"]):
            if time.monotonic() > until:
                raise RuntimeError(f"process {rank + 1} of {self.count} has not come")
            time.sleep(0.02)
        machine, _, number = self.get(f"at/{rank}").rpartition(" ")
        return machine, int(number)

    def _without_store(self) -> str:
        """The line about who is lost where the store is gone, which the first process or the launcher holds."""
        for rank, (machine, number) in self._places.items():
            if machine == _machine() and not _runs(number):
                return self._lost(rank)
        return f"process 1 of {self.count}, or the launcher, is lost; {KEPT}"

    def _lost(self, rank: int) -> str:
        return f"{self.named(rank)} is lost: it was killed, or its machine is; {KEPT}"

    # ---- the others ------------------------------------------------------------------------------------------------

    def named(self, rank: int) -> str:
        """A process in words."""
        machine, number = self._places[rank]
        return f"process {rank + 1} of {self.count} (rank {rank}, pid {number} on {machine.partition(' ')[0]})"

    def end_of(self, rank: int) -> str:
        """Why a process has ended, by its own word; "" if it said nothing."""
        return self.get(f"end/{rank}") if self.has(f"end/{rank}") else ""

    def is_alive(self, rank: int) -> bool:
        """Whether a process is there, or on another machine was there not long ago."""
        machine, number = self._places[rank]
        if machine == _machine():
            return _runs(number)
        beat = self.get(f"beat/{rank}") if self.has(f"beat/{rank}") else ""
        if beat != self._heard.get(rank, ("", 0.0))[0] or rank not in self._heard:
            self._heard[rank] = beat, time.monotonic()
        return time.monotonic() - self._heard[rank][1] < SILENT

    def missing(self, ends: tuple[str, ...] = ("failed",)) -> str:
        """The line about a process that is lost, or has ended in one of these ways; "" if none is."""
        for rank in range(self.count):
            if rank == self.rank:
                continue
            end = self.end_of(rank)
            if end.startswith(ends):
                return f"{self.named(rank)} {end}"
            if not end and not self.is_alive(rank) and not self.end_of(rank):
                return self._lost(rank)
        return ""

    def cause(self, error: BaseException) -> str:
        """Why another process ended this one: a line, or STOPPED; "" where none has ended.

        A process of this machine is looked up; of another one a new sign of life is waited for.
        """
        waits = not isinstance(error, KeyboardInterrupt | GeneratorExit)  # a connection is broken by someone
        before, until = self._signs(), time.monotonic() + TO_HEAR
        with suppress(LostError):
            while True:
                if said := self.missing(("failed", "refused")):
                    return said
                ends = [self.end_of(rank) for rank in range(self.count) if rank != self.rank]
                if STOPPED in ends:
                    return STOPPED
                silent = [rank for rank, sign in self._signs().items() if sign == before[rank]]
                if time.monotonic() > until or not (silent or waits):
                    if silent:
                        return f"{self.named(silent[0])} is lost: it says nothing more; {KEPT}"
                    return ""
                time.sleep(0.1)
        return self._without_store()

    def _signs(self) -> dict[int, str]:
        """The beats of the processes on other machines that have not ended."""
        with suppress(LostError):
            others = [rank for rank in range(self.count) if self._places[rank][0] != _machine()]
            return {rank: self.get(f"beat/{rank}") for rank in others if not self.end_of(rank)}
        return {}

    def speaks(self) -> bool:
        """Whether this process speaks for the run: the first, or the next one where that is gone."""
        with suppress(LostError):
            if not self._gone:
                return not any(self.end_of(rank) or self.is_alive(rank) for rank in range(self.rank))
        before = [place for rank, place in self._places.items() if rank < self.rank]
        return not any(machine == _machine() and _runs(number) for machine, number in before)

    def heed(self) -> None:
        """From now on the work of this process is not interrupted, since it ends; an interrupt under way is let go."""
        try:
            with self._lock:
                self._heeded = True
            time.sleep(0)  # where the interrupt comes
        except KeyboardInterrupt:
            self._heeded = True

    # ---- itself ----------------------------------------------------------------------------------------------------

    def leave(self, why: str) -> None:
        """Tell the others that this process ends."""
        if not self._left:
            self._left = True
            with suppress(RuntimeError):
                self.put(f"end/{self.rank}", why)

    def beat(self) -> None:
        self._beats += 1
        self.put(f"beat/{self.rank}", str(self._beats))

    def _go_on(self) -> None:
        while not self._over.wait(BEAT):
            said = ""
            try:
                self.beat()
                said = self.missing()
            except RuntimeError:  # the store is gone, and with it the launcher
                said = self._without_store()
            if said:
                with self._lock:
                    if not (self._left or self._heeded):
                        _thread.interrupt_main()
                if not self._over.wait(TO_END):
                    with suppress(Exception):
                        self.at_the_end(said)
                    os._exit(RunError.exit_code)
                return

    def _farewell(self) -> None:
        self.leave(ENDED)
        self._over.set()
        self._thread.join(FAREWELL)  # a thread that is cut off within a call of the store ends the process by an abort
        until = time.monotonic() + FAREWELL
        with suppress(RuntimeError):
            while self.rank == 0 and time.monotonic() < until:
                if all(self.end_of(rank) or not self.is_alive(rank) for rank in range(1, self.count)):
                    return
                time.sleep(0.02)


def _machine() -> str:
    """A name of this machine, and of the space in which the numbers of its processes hold."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {space}".strip()


def _runs(number: int) -> bool:
    """Whether a process of this machine runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with suppress(OSError, IndexError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True
