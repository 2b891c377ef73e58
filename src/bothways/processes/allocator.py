"""The memory that a process keeps for itself when tensors are freed.

The C library gives a large block back to the kernel as soon as it is freed, and the next tensor of that size is made of
fresh pages, each of them faulted in and cleared: in a network that is bound by memory that costs as much as the work.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
SMALLEST_OF_ITS_OWN = 1 << 30  # bytes of a block that the kernel still maps by itself
MOST_KEPT = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Keep what is freed for the tensors that come. It is for a process of our own; does nothing without glibc."""
    if (library := _glibc()) is not None and library.mallopt(MMAP_THRESHOLD, SMALLEST_OF_ITS_OWN):
        library.mallopt(TRIM_THRESHOLD, MOST_KEPT)


def give_back_freed_memory() -> None:
    """Give the kernel what was kept, so that it counts as free. Does nothing without glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
