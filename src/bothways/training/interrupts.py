"""Interrupts wait for the end of a step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS_APART = 2.0
"""What comes sooner after an interrupt is the same one: a scheduler sends it to the launcher and to every process, and
the launcher sends it on."""


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Defer Ctrl-C and SIGTERM: recorded in the list, so that the step completes; a later one is raised at once."""
    noted: list[int] = []
    first = 0.0
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = [number for number, handler in former.items() if callable(handler)]

    def note(number: int, stack: Any) -> None:
        nonlocal first
        if not noted:
            first = time.monotonic()
            noted.append(number)
        elif time.monotonic() - first > SECONDS_APART:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        heeded = []  # only the main thread may set handlers
    for number in heeded:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number in heeded:
            signal.signal(number, former[number])
