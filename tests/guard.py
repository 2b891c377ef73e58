"""A call in a child process with a limit on its processor time and its memory: a hang ends in a failed test."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bothways.types import RunError


class BrokenError(AssertionError):
    """The child ended without an answer: out of time, out of memory, or by a signal."""


def guarded(call: Callable[[], Any], *, seconds: int, megabytes: int) -> Any:
    """What a call gives in a fork of this process.

    Raises BrokenError where it takes more processor time, three times as long on the clock, or so much more memory.
    """
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which are idle
        child = os.fork()
    if child == 0:
        os.close(read)
        _answer(call, write, seconds, megabytes)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not content:
        raise BrokenError(f"ended by {'signal ' + str(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else status}")
    good, found = pickle.loads(content)
    if not good:
        raise BrokenError(found)
    return found


def _answer(call: Callable[[], Any], pipe: int, seconds: int, megabytes: int) -> None:
    """In the child, which never returns."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also inside a library that never returns
        signal.alarm(3 * seconds)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + megabytes * 2**20,) * 2)
        before = used.ru_maxrss
        found = True, call()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > megabytes:
            found = False, f"took {grown:.0f} MB"
    except BaseException as error:
        found = False, f"{type(error).__name__}: {error}"
    with os.fdopen(pipe, "wb") as file:
        file.write(pickle.dumps(found))
    os._exit(0)


def outcome(call: Callable[[], Any], names: str = "") -> str:
    """ "result", or "line" for one line of a ValueError, which a UserError is, or a RunError; all else is raised.

    names: what the line has to hold, such as the file.
    """
    try:
        call()
    except (ValueError, RunError) as error:
        told = str(error)
    else:
        return "result"
    assert told
    assert "\n" not in told
    assert len(told) < 600
    assert names in told
    return "line"


def address_space() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
