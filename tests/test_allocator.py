"""What a process keeps of freed memory: the next large tensor has it, and it counts as free all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

LARGE = 200_000_000  # bytes, more than the C library keeps by itself
CODE = f"""
import resource
from bothways.processes.allocator import give_back_freed_memory, keep_freed_memory
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
import ctypes
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def use():
    block = library.malloc({LARGE})
    ctypes.memset(block, 1, {LARGE})
    library.free(block)
KEEP
use()
before = faults()
use()
print(faults() - before)
kept = resident()
give_back_freed_memory()
print(kept - resident())
"""


def numbers(keep: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("KEEP", keep)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
def test_kept_and_given_back() -> None:
    fresh, _ = numbers("")
    again, back = numbers("keep_freed_memory()")
    assert again < fresh / 10
    assert back > 0.9 * LARGE
