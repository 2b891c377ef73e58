"""Several processes of one run, as torchrun starts them: who is first, how they meet, and whether one of them is lost.

    torchrun --nproc_per_node 2 -m bothways sample runs/digits --out runs/drawn

The launcher sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. The processes meet at the launcher's store of keys;
only a training makes a process group, for its gradients:

    batch_rank = batch[rank::count],   gradient = mean over processes,   so all have the same network at every step

The whole batch does not depend on the number of processes. Shares are every count-th row, since the times of a flow's
batch are sorted.
"""

from __future__ import annotations

import atexit
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from bothways.processes.launched import own_rank, world_size
from bothways.processes.watch import ENDED, STOPPED, LostError, Watch, ended_by_another
from bothways.types import RunError, UserError

Batches = Callable[[int], tuple[Tensor, ...]]

TO_MEET = timedelta(minutes=10)  # within which all processes have started
OF_A_STEP = timedelta(hours=2)  # within which all processes of a training come to one step
BRIEFLY, LONGER = 0.01, 0.25  # seconds between two looks for another process


@dataclass(frozen=True)
class Processes:
    """This process among those of a run; by default the only one.

    device: of its network. watch: the ties to the others, if there are any.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    watch: Watch | None = None

    @property
    def first(self) -> bool:
        """Whether this is the main process, which writes how the run stands and reports."""
        return self.rank == 0

    def own(self, items: list[Any]) -> list[Any]:
        """This process's share of a list: every count-th item."""
        return items[self.rank :: self.count]

    def divided(self, items: list[Any]) -> list[Any]:
        """This process's share of what is left to do, once every process has taken its own.

        Only then may one of them write: another that came later would find less left, and some of it be nobody's.
        """
        found = self.own(items)
        self.wait()
        return found

    def tell_of_idle(self, parts: int, cure: str) -> None:
        """Warn where the work has fewer parts than there are processes, in the first. cure: what to type."""
        if self.first and 0 < parts < self.count:
            some = f"{parts} part{'s' * (parts > 1)} for {self.count} processes"
            warnings.warn(f"{some}: the others have nothing to do; {cure}", stacklevel=3)

    # ---- meeting ---------------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Return when all processes have come here. Raises RunError if one is lost, or has ended before."""
        if self.watch is not None:
            number = self.watch.next_meeting()
            self.watch.put(f"met/{number}/{self.rank}", "1")
            self._until({rank: f"met/{number}/{rank}" for rank in range(self.count)})

    def least(self, number: int) -> int:
        """The least of the numbers that the processes give."""
        if self.watch is None:
            return number
        meeting = self.watch.next_meeting()
        keys = {rank: f"number/{meeting}/{rank}" for rank in range(self.count)}
        self.watch.put(keys[self.rank], str(number))
        self._until(keys)
        return min(int(self.watch.get(key)) for key in keys.values())

    def on_first(self, make: Callable[[], None]) -> None:
        """Run a function in the main process while the others wait; its UserError or RunError is raised in all."""
        if self.watch is None:
            make()
            return
        key, kinds = f"said/{self.watch.next_meeting()}", {kind.__name__: kind for kind in (UserError, RunError)}
        if self.first:
            try:
                make()
            except (UserError, RunError) as error:
                self.watch.put(key, f"{type(error).__name__} {error}")
                raise
            self.watch.put(key, " ")
            return
        self._until({0: key})
        kind, _, reason = self.watch.get(key).partition(" ")
        if kind:
            raise kinds.get(kind, RunError)(reason)

    def _until(self, keys: dict[int, str]) -> None:
        """Wait for a key of each process."""
        assert self.watch is not None
        pause = BRIEFLY
        while missing := [rank for rank, key in keys.items() if not self.watch.has(key)]:
            if said := self.watch.missing():
                raise LostError(said, self.watch.speaks())
            for rank in missing:
                if (end := self.watch.end_of(rank)) and not self.watch.has(keys[rank]):
                    if end == STOPPED:
                        raise KeyboardInterrupt
                    why = "ended before the others" if end == ENDED else end
                    raise LostError(f"{self.watch.named(rank)} {why}", self.watch.speaks())
            time.sleep(pause)
            pause = min(LONGER, 1.5 * pause)

    @contextmanager
    def told(self) -> Iterator[None]:
        """The context whose errors the other processes hear of.

        An error that another process has caused, such as a broken connection, is raised as the LostError that says so.
        """
        try:
            yield
        except BaseException as error:
            self.tell(error)
            raise

    def tell(self, error: BaseException) -> None:
        """Tell the others that this process ends. Raises LostError or KeyboardInterrupt where another is the cause."""
        if self.watch is None or isinstance(error, LostError):
            return
        self.watch.heed()
        cause = self.watch.cause(error) if ended_by_another(error) else ""
        if cause == STOPPED and not isinstance(error, KeyboardInterrupt):
            self.watch.leave(STOPPED)
            raise KeyboardInterrupt from error
        if cause not in ("", STOPPED):
            raise LostError(cause, self.watch.speaks()) from error
        by_hand = isinstance(error, KeyboardInterrupt | GeneratorExit)
        how = "refused" if isinstance(error, UserError) else "failed"
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.watch.leave(STOPPED if by_hand else f"{how}: {said}")

    # ---- training --------------------------------------------------------------------------------------------------

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Wrap the network so that its backward pass averages gradients over processes."""
        if self.watch is None:
            return network
        group(self)
        on_device = None if self.device == "cpu" else [torch.device(self.device)]
        return nn.parallel.DistributedDataParallel(network, device_ids=on_device)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values`` over processes."""
        if self.watch is None:
            return values
        group(self)
        total = values.clone()
        distributed.all_reduce(total)
        return total / self.count

    def any(self, found: bool) -> bool:
        """Whether it is so in any process. All processes of a training ask at the same step."""
        return found if self.watch is None else bool(self.mean(torch.tensor(float(found), device=self.device)) > 0)

    def share(self, batch: Batches, size: int) -> Batches:
        """This process's rows of each batch. Raises UserError if ``size`` is not divisible by the processes."""
        if size % self.count:
            near = max(1, size // self.count) * self.count
            raise UserError(f"--batch {size} is not divisible by {self.count} processes; type --batch {near}")
        return batch if self.count == 1 else partial(_share, batch, self.rank, self.count)


def join_processes(device: str = "cpu") -> Processes:
    """This process among those started by torchrun (WORLD_SIZE). Raises UserError if they cannot meet."""
    if world_size() == 1:
        return Processes(device=device)
    watch = _watch()
    if device == "cuda" and torch.cuda.is_available():
        place = int(os.environ.get("LOCAL_RANK", own_rank())) % torch.cuda.device_count()
        torch.cuda.set_device(place)  # "cuda" is now the card of this process
        device = f"cuda:{place}"
    return Processes(watch.rank, watch.count, device, watch)


@cache
def _watch() -> Watch:
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, count = next(rendezvous("env://", timeout=TO_MEET))
        return Watch(store, rank, count, TO_MEET.total_seconds())
    except (ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f"{world_size()} processes (WORLD_SIZE) cannot meet ({said}); start them by torchrun, "
            "or set MASTER_ADDR and MASTER_PORT to the first one's"
        ) from error


@cache
def group(processes: Processes) -> None:
    """Make the process group of a training, once."""
    if distributed.is_initialized() or processes.watch is None:
        return
    backend = "gloo" if processes.device == "cpu" else "cpu:gloo,cuda:nccl"
    distributed.init_process_group(
        backend,
        store=processes.watch.store("group"),
        rank=processes.rank,
        world_size=processes.count,
        timeout=OF_A_STEP,
    )
    atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _share(batch: Batches, rank: int, count: int, step: int) -> tuple[Tensor, ...]:
    return tuple(rows[rank::count] for rows in batch(step))
