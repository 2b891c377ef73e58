"""How much memory and disk a machine has left, and the one line that refuses what would take more.

Free memory of "cpu" is the least of what the kernel counts as available, of the limits of the control groups above this
process (v1 and v2; pages of files, which the kernel drops again, count as free), and of the limit of its address space
(ulimit -v). Swap does not count: a run that needs it stands still. Several processes of one run on this machine share
it equally.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from bothways.processes.allocator import give_back_freed_memory
from bothways.processes.launched import count_here
from bothways.types import UserError

Settings = TypeVar("Settings")
Found = TypeVar("Found")
GREATEST = 10**9  # of a whole number that counts anything; a seed counts nothing
UNLIMITED = float(1 << 60)  # control groups of v1 write a number like this one for no limit
CERTAINLY = 1 << 18  # bytes per pixel that no usual network exceeds, forward and backward
# of a CPU; of CUDA's runtime and of MPS; of cuBLAS, cuDNN and cuFFT, for what they need beside torch's tensors
NO_MEMORY = ("allocate memory", "out of memory", "_ALLOC_FAILED")
GROUPS = Path("/sys/fs/cgroup")


def free_memory(device: str = "cpu") -> float:
    """Bytes that can still be allocated on a device: "cpu", "cuda", "cuda:1", "mps"; infinite where no one knows."""
    kind = str(device).partition(":")[0]
    if kind in ("cuda", "mps"):
        import torch

        if kind == "mps":
            return float(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    give_back_freed_memory()
    together = min([_of_the_machine(), *_of_groups()]) / count_here()
    return max(0.0, min(together, _of_the_address_space()))


def free_disk(place: str | Path) -> float:
    """Bytes that can still be written below a folder, which need not exist yet; infinite where no one knows."""
    folder = Path(os.path.expanduser(place)).absolute()  # noqa: PTH111 - as reading.at_home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with suppress(OSError):
        return float(shutil.disk_usage(folder).free)
    return float("inf")


def amount(count: float) -> str:
    """A number of bytes for a person, such as "4.2 GB"."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.0f} {unit}" if count >= 100 * size else f"{count / size:.2g} {unit}"
    return f"{count / 1e3:.0f} kB"


def greatest(cost: Callable[[int], float], room: float, most: int) -> int:
    """The greatest whole number from 1 to ``most`` whose cost is within the room; 0 if none is. cost: rising."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= room else (low, middle - 1)
    return low


def check_memory(what: str, need: float, cure: str | Callable[[float], str], device: str = "cpu") -> None:
    """Raise UserError in one line where ``need`` bytes are more than a device has left.

    what: the subject. cure: what to type, or a function of the free bytes that says it.
    """
    free = free_memory(device)
    if need > free:
        where = "memory" if str(device) == "cpu" else f"memory of {device}"
        told = cure if isinstance(cure, str) else cure(free)
        raise UserError(f"{what} would take about {amount(need)} of {where}, and {amount(free)} are free; {told}")


def check_disk(what: str, need: float, place: str | Path, cure: Callable[[float], str]) -> None:
    """Raise UserError in one line where files of ``need`` bytes are more than a disk has left. place: their folder."""
    free = free_disk(place)
    if need > free:
        raise UserError(
            f"{what} would take about {amount(need)} on the disk of {place}, and {amount(free)} are free; {cure(free)}"
        )


def no_memory_left(error: BaseException) -> bool:
    """Whether an error, or its cause, says that an allocation failed, as Python or torch says it of any device."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"} or any(words in str(error) for words in NO_MEMORY):
        return True
    return error.__cause__ is not None and no_memory_left(error.__cause__)


class AtOnce:
    """How many pictures are worked on at once: all of them, and half as many whenever no memory is left.

    most: the greatest number that fits, as far as is known. what: the work in words, for the warning.
    """

    def __init__(self, what: str, most: int = GREATEST) -> None:
        self.what, self.most = what, most

    def parts(self, count: int, work: Callable[[slice], Found]) -> list[Found]:
        """The results of ``work(slice)`` over ``count`` pictures, in order; work is called once for none.

        Raises what says that no memory is left for a single one.
        """
        found: list[Found] = []
        first = 0
        while first < count or not found:
            size = min(self.most, count - first)
            if (one := self._tried(work, first, size)) is not None:
                found.append(one)
                first += size
        return found

    def over(self, images: Any, work: Callable[[Any], Found]) -> list[Found]:
        """``parts`` of ``work(some of the images)``. images: (B,...)."""
        return self.parts(len(images), lambda part: work(images[part]))

    def _tried(self, work: Callable[[slice], Found], first: int, size: int) -> Found | None:
        try:
            return work(slice(first, first + size))
        except (MemoryError, RuntimeError) as error:
            self.fewer(size, error)
        return None  # after the error, whose frames hold what was allocated

    def fewer(self, size: int, error: BaseException) -> None:
        """Take half as many as ``size``, with a warning. Raises the error for one, and one of something else."""
        if size < 2 or not no_memory_left(error):
            raise error
        self.most = size // 2
        warnings.warn(
            f"no memory was left for {size} {self.what} at once; {self.most} are taken, with the same results",
            stacklevel=4,
        )


def within(option: str, most: int, otherwise: str) -> str:
    """What to type: an option with the greatest number that fits, or something else where not even 1 does."""
    return f"type {option} {most} or less" if most else otherwise


def checked_numbers(settings: Settings) -> Settings:
    """The settings. Raises UserError for a whole number above GREATEST in them, in their parts and tables."""
    _check_numbers("", settings)
    return settings


def _check_numbers(name: str, value: Any) -> None:
    if isinstance(value, int) and value > GREATEST and name != "seed":
        raise UserError(f"{name}={value}: too great a number; type {GREATEST} or less")
    if isinstance(value, list | tuple):
        for one in value:
            _check_numbers(name, one)
    elif isinstance(value, Mapping | BaseModel):
        whole = {**value.__dict__, **(value.__pydantic_extra__ or {})} if isinstance(value, BaseModel) else value
        for key, one in whole.items():
            _check_numbers(str(key), one)


def certainly_fits(pixels: float, device: str = "cpu") -> bool:
    """Whether a pass over pictures of so many pixels in all is so small that no network needs to be measured."""
    return CERTAINLY * pixels <= free_memory(device)


# ---- what the machine says ------------------------------------------------------------------------------------------


def _of_the_machine() -> float:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        with suppress(OSError, ValueError, AttributeError):
            return float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def _of_groups() -> Iterator[float]:
    """Of each control group from that of this process up to the root, both versions."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, own = line.split(":", 2)
        if not kinds or "memory" in kinds.split(","):
            root = GROUPS / kinds
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
            folder = Path(own.lstrip("/"))
            for place in (folder, *folder.parents):  # in a container the folder may be that of the host, and not there
                with suppress(OSError, ValueError):
                    yield _of_group(root / place, *names)


def _of_group(folder: Path, most: str, used: str) -> float:
    limit = float((folder / most).read_text())  # "max" is no number: no limit
    if limit >= UNLIMITED:
        return float("inf")
    facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    below = "total_" if "total_active_file" in facts else ""  # in v1 the plain numbers leave out the groups below
    kept = sum(float(facts.get(f"{below}{state}_file", 0)) for state in ("active", "inactive"))
    return limit - float((folder / used).read_text()) + kept


def _of_the_address_space() -> float:
    try:
        import resource
    except ImportError:  # not on Windows
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    with suppress(OSError, ValueError):
        return limit - float(int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    return float(limit)
