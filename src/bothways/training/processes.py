"""Distributed data-parallel training by accelerate: each process takes a share of every batch.

    batch_rank = batch[rank::count],   gradient = mean over processes,   so all have the same network at every step

The whole batch does not depend on the number of processes. Shares are every count-th row, since the times of a flow's
batch are sorted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bothways.types import UserError

Batches = Callable[[int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Processes:
    """This process in a distributed training; by default the only one.

    device: of its network. accelerator: of accelerate, if there are several processes.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    accelerator: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the main process, which writes and reports."""
        return self.rank == 0

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Wrap the network so that its backward pass averages gradients over processes."""
        return network if self.accelerator is None else self.accelerator.prepare_model(network)

    def any(self, found: bool) -> bool:
        """Whether it is so in one of the processes."""
        return (
            found if self.accelerator is None else bool(self.mean(torch.tensor(float(found), device=self.device)) > 0)
        )

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values`` over processes."""
        return values if self.accelerator is None else self.accelerator.reduce(values, "mean")

    def share(self, batch: Batches, size: int) -> Batches:
        """This process's rows of each batch. Raises UserError if ``size`` is not divisible by the processes."""
        if size % self.count:
            near = max(1, size // self.count) * self.count
            raise UserError(f"--batch {size} is not divisible by {self.count} processes; type --batch {near}")
        return batch if self.count == 1 else partial(_share, batch, self.rank, self.count)

    def on_first(self, make: Callable[[], None]) -> None:
        """Run a function in the main process only; its UserError is raised in all."""
        reason = ""
        if self.first:
            try:
                make()
            except UserError as error:
                reason = str(error)
        if self.accelerator is not None:
            from accelerate.utils import broadcast_object_list

            reason = broadcast_object_list([reason])[0]
        if reason:
            raise UserError(reason)

    def end(self) -> None:
        """End the distributed training."""
        if self.accelerator is not None:
            self.accelerator.end_training()


def join_processes(device: str) -> Processes:
    """This process among those started by torchrun (WORLD_SIZE). Raises UserError if accelerate is missing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device=device)
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise UserError('several processes need accelerate; type pip install "bothways[distributed]"') from error
    accelerator = Accelerator(cpu=device == "cpu")
    return Processes(accelerator.process_index, accelerator.num_processes, str(accelerator.device), accelerator)


def _share(batch: Batches, rank: int, count: int, step: int) -> tuple[Tensor, ...]:
    return tuple(rows[rank::count] for rows in batch(step))
