"""Jobs of a benchmark in several processes: rows are written as they come, and none begins after the minutes given."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

Job = Hashable
Next = Callable[[], Sequence[Job]]
"""-> the jobs that can be done now, in their order; those that were given out already may be among them."""


def spread(
    ready: Next,
    work: Callable[[Any], Any],
    keep: Callable[[Any, Any], None],
    processes: int,
    minutes: float,
    method: str = "fork",
) -> list[str]:
    """Do all jobs, each in one of so many processes, until none is ready or the time is over -> failures, a line each.

    ready: is asked again after every job, since one may be ready when another is done. work: job -> what it found; in a
    process of its own. keep: writes it down, here. A job under way when the time is over is stopped, and is ready again
    at the next call. processes: 0 for this one. method: "fork", where what is held here is held once, or "spawn", where
    work must be picklable: a process that was forked cannot use a GPU that this one has looked at.
    """
    end, given, failures = time.monotonic() + 60 * minutes, set[Job](), list[str]()
    if not processes:
        while time.monotonic() < end and (left := [job for job in ready() if job not in given]):
            given.add(left[0])
            done, found = _tried(work, left[0])
            if done:
                keep(left[0], found)
            else:
                failures.append(f"{left[0]}: {found}")
        return failures
    context: Any = multiprocessing.get_context(method)
    idle: list[Connection] = []
    busy: dict[Connection, Job] = {}
    children = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(theirs, work), daemon=False)
        child.start()
        theirs.close()
        children.append(child)
        idle.append(ours)
    try:
        while True:
            left = [job for job in ready() if job not in given]
            while left and idle and time.monotonic() < end:
                line = idle.pop()
                busy[line] = left.pop(0)
                given.add(busy[line])
                line.send(busy[line])
            if not busy:
                return failures
            for line in wait(list(busy), timeout=max(0.0, end - time.monotonic())) or _stopped(busy, failures):
                _take(line, busy, idle, keep, failures)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join()


def _stopped(busy: dict[Connection, Job], failures: list[str]) -> list[Connection]:
    failures += [f"{job}: the time was over" for job in busy.values()]
    busy.clear()
    return []


def _take(
    line: Any,
    busy: dict[Connection, Job],
    idle: list[Connection],
    keep: Callable[[Any, Any], None],
    failures: list[str],
) -> None:
    job = busy.pop(line)
    try:
        done, found = line.recv()
    except EOFError:
        failures.append(f"{job}: its process ended")
        return
    idle.append(line)
    if done:
        keep(job, found)
    else:
        failures.append(f"{job}: {found}")


def _serve(line: Connection, work: Callable[[Any], Any]) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            job = line.recv()
        except EOFError:
            return
        line.send(_tried(work, job))


def _tried(work: Callable[[Any], Any], job: Any) -> tuple[bool, Any]:
    """Whether a job was done, and what it found or where it failed."""
    try:
        return True, work(job)
    except Exception as error:  # whatever an arm raises: the others go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        return False, f"{error!r} at {place.filename}:{place.lineno}"
