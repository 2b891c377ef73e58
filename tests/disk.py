"""The writes and steps of a process counted one by one, and what may happen at one of them: a kill, or a broken disk.

A point is a file opened to be written, a write, an fsync, a rename, a removal, a folder made or removed, a file cut
short, and a finished step of a stage. Points are counted below one folder, in a fork that ends afterwards.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bothways.progress import Stage

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink", "os.link")
TAKES_ROOM = ("open", "os.mkdir", "os.symlink", "write", "fsync")  # what a full disk refuses
NUMBERS = {"full": errno.ENOSPC, "input-output": errno.EIO, "read-only": errno.EROFS}
LASTING = ("full", "read-only")  # a disk stays as it is, until the process ends
ALWAYS = ("slow", "clock")
SLOW = 0.002  # seconds of a slow write
JUMP = 1e7  # seconds, a third of a year


class Disk:
    """What happens below ``root`` at point number ``at``, from 1 on; at=0 counts only.

    what: "kill", a key of NUMBERS, or for the whole life "slow" or "clock", whose time jumps back and forth. A write at
    that point leaves half of what it was given.
    """

    def __init__(self, root: Path, what: str = "kill", at: int = 0) -> None:
        self.root, self.what, self.at = f"{root.resolve()}{os.sep}", what, at
        self.count, self.fired = 0, ""
        self._lock = threading.RLock()

    def watch(self) -> None:
        """Count and break from now on; what is changed for that is not put back."""
        sys.addaudithook(self._audit)
        plain_open, advance, disk = Path.open, Stage.advance, self

        def opened(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
            file = plain_open(path, mode, *more, **named)
            return _Written(file, disk) if set(mode) & set("wxa+") and disk._inside(path) else file

        def advanced(stage: Stage, number: int = 1, values: Any = None) -> None:
            advance(stage, number, values)
            disk.point("step", "")

        Path.open = opened  # type: ignore[method-assign,assignment]
        Stage.advance = advanced  # type: ignore[method-assign]
        os.fsync = lambda handle: disk.point("fsync", "")  # type: ignore[assignment]
        if self.what == "clock":
            now = time.time
            time.time = lambda: now() + (-1) ** disk.count * JUMP

    def _inside(self, path: Any) -> bool:
        try:
            return os.path.abspath(os.fspath(path)).startswith(self.root)  # noqa: PTH100 - resolve() looks at the disk
        except TypeError:  # a number of an open file
            return False

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if isinstance(path, str | bytes | os.PathLike) and flags and flags & WRITES and self._inside(path):
                self.point(event, os.fsdecode(path))
        elif event in CHANGES and self._inside(given[0]):
            self.point(event, os.fsdecode(given[0]))

    def point(self, kind: str, name: str, half: Callable[[], None] = lambda: None) -> None:
        """Count a point, and let happen what is to. half: writes half of what a write was given."""
        with self._lock:
            self.count += 1
            here = self.count == self.at or (self.what in LASTING and 0 < self.at < self.count)
            if self.what == "slow" and kind != "step":
                time.sleep(SLOW)
            if not here or self.what in ALWAYS:
                return
            if self.what == "kill":
                half()
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "step" or (self.what == "full" and kind not in TAKES_ROOM):
                return
            self.fired = self.fired or f"{kind} {name}".strip()
            half()
            number = NUMBERS[self.what]
            raise OSError(number, os.strerror(number), *([name] if name else []))


class _Written:
    """An open file each of whose writes is a point."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, content: Any) -> int:
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._disk.point("write", "", half)
        return int(self._file.write(content))

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Ended(NamedTuple):
    """code: of the exit; -9 for SIGKILL. said: all that was printed. points: counted, 0 for who was killed."""

    code: int
    said: str
    points: int

    @property
    def lines(self) -> list[str]:
        """What was said of an error."""
        return [line for line in self.said.splitlines() if line.startswith("bothways: ")]


def forked(call: Callable[[], object], disk: Disk | None = None, seconds: int = 120) -> Ended:
    """How a call ends in a fork of this process, on that disk. An exception is code 70, and its traceback is said."""
    return begun(call, disk, seconds)()


def begun(call: Callable[[], object], disk: Disk | None = None, seconds: int = 120) -> Callable[[], Ended]:
    """Begin a call in a fork; what is returned waits for its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    out, counted = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by who waits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which are idle
        child = os.fork()
    if child == 0:
        _child(call, disk, seconds, out.fileno(), counted.fileno())

    def wait() -> Ended:
        _, status = os.waitpid(child, 0)
        with out, counted:
            out.seek(0)
            counted.seek(0)
            said, points = out.read().decode("utf-8", "replace"), int(counted.read() or 0)
        return Ended(os.waitstatus_to_exitcode(status), said, points)

    return wait


def _child(call: Callable[[], object], disk: Disk | None, seconds: int, out: int, counted: int) -> None:
    """In the child, which never returns."""
    code = 0
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also where a library never returns
        signal.alarm(seconds)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        warnings.resetwarnings()
        if disk is not None:
            disk.watch()
        call()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 70
        traceback.print_exc()
    sys.stdout.flush()
    if disk is not None:
        os.write(counted, str(disk.count).encode())
    os._exit(code)
