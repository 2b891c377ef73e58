"""What a run says of itself: the versions it was made with, and how it ended."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bothways.runs import RunFolder
from bothways.version import __version__

STOPPED = "stopped before the end; type --resume to go on"


def versions() -> dict[str, str]:
    """Of bothways, torch and Python."""
    return {"bothways": __version__, "torch": torch.__version__, "python": platform.python_version()}


@contextmanager
def ending(folder: RunFolder | None, facts: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Inside, the steps of a run; however it ends, its folder says how, with ``facts`` of that moment.

    A run whose steps are all made stays "running": what follows them says when it is complete.
    """
    state, message = "stopped", STOPPED
    try:
        yield
        state, message = "running", ""
    except Exception as error:
        state, message = "failed", str(error)
        raise
    finally:
        if folder is not None:
            folder.finish(state, message, **facts())


@contextmanager
def measuring(folder: RunFolder) -> Iterator[None]:
    """Inside, what is measured of a finished training; where that fails or is stopped, its folder says so."""
    try:
        yield
    except BaseException as error:
        state = "failed" if isinstance(error, Exception) else "stopped"
        folder.finish(state, f"trained but not measured ({error}); type --resume to go on")
        raise
