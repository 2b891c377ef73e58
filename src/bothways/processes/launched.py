"""What a launcher such as torchrun has set: which of how many processes this is. Imports nothing."""

from __future__ import annotations

import os


def world_size() -> int:
    """The number of processes of the run."""
    return _number("WORLD_SIZE", 1)


def own_rank() -> int:
    """The number of this process, 0 for the first."""
    return _number("RANK", 0)


def count_here() -> int:
    """The number of processes on this machine, which share its memory."""
    return max(1, _number("LOCAL_WORLD_SIZE", 1))


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else otherwise
