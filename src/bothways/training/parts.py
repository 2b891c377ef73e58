"""A batch in equal parts, and in more of them where no memory is left for a step: the same step in less memory.

gradient = mean over parts of the gradient of a part
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bothways.budget import no_memory_left
from bothways.processes.group import Processes
from bothways.types import RunError, UserError

Loss = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, dict[str, Tensor]]]
"""(network, batch) -> the loss, and statistics to log."""

# The words of what another number of parts changes, for the note of a run; nothing else of a step depends on it.
SAME, DRAWS = "the same step but for rounding", "the same step but for rounding and the draws of its dropout"


def parts(batch: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """A batch in equal parts, each tensor by its own number of rows. Raises UserError for rows that do not divide."""
    if odd := [len(rows) for rows in batch if len(rows) % count]:
        raise UserError(f"accumulate={count} does not divide {odd[0]} rows of a batch; type a --batch that it divides")
    return list(zip(*(rows.chunk(count) for rows in batch), strict=True))


class Gradients(NamedTuple):
    """What was found with the gradients of a batch. rows: of each part, the loss and the statistics over the count.

    names: of the numbers of a row. drew: whether the network drew random numbers.
    """

    names: tuple[str, ...]
    rows: list[Tensor]
    drew: bool


def gradients(
    network: nn.Module,
    loss: Loss,
    batch: tuple[Tensor, ...],
    count: int,
    *,
    bf16: bool,
    seed: int,
    processes: Processes,
) -> Gradients:
    """Add the gradients of a batch in ``count`` parts to those of the parameters. seed: of dropout.

    Nothing is read from the device: whether the loss is finite is to be seen in the rows.
    """
    device, rows = batch[0].device, list[Tensor]()
    names: tuple[str, ...] = ()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout is a function of (seed, step)
        torch.random.manual_seed(seed)
        begun = _random_state(device)
        for place, part in enumerate(parts(batch, count), start=1):
            # gradients are averaged over processes with the last part alone
            with nullcontext() if place == count else getattr(network, "no_sync", nullcontext)():
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    value, stats = loss(network, part)
                names = ("loss", *stats)
                found = torch.stack([one.detach().float() for one in (value, *stats.values())]) / count
                rows.append(processes.mean(found))
                (value / count).backward()
        drew = not torch.equal(begun, _random_state(device))
    return Gradients(names, rows, drew)


def _random_state(device: torch.device) -> Tensor:
    """The state of torch's own random numbers on a device, which only dropout and the like draw."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.random.get_rng_state()


def more_parts(network: nn.Module, batch: tuple[Tensor, ...], present: int, error: Exception) -> int:
    """The least number of equal parts that is at least twice the present one.

    Raises the error where it says something else than that no memory is left, or where no such number divides the
    batch; RunError where parts would not make the same step, since the network normalises over the pictures of a batch.
    """
    shared = math.gcd(*(len(rows) for rows in batch))
    found = next((count for count in range(2 * present, shared + 1) if shared % count == 0), 0)
    if not found or not no_memory_left(error):
        raise error
    if over := next(_over_the_batch(network), ""):
        raise RunError(
            f"out of memory with {len(batch[0]) // present} pictures at once; they are not divided, since {over} "
            f"normalises over them: type a smaller --batch, or --accumulate {found} to normalise over fewer"
        ) from error
    return found


def _over_the_batch(network: nn.Module) -> Iterator[str]:
    """The names of the modules whose outputs for a picture depend on the others, or that learn from a whole batch."""
    for name, module in network.named_modules():
        normalises = isinstance(module, nn.modules.batchnorm._NormBase)
        if normalises and module.training and (module.track_running_stats or "BatchNorm" in type(module).__name__):
            yield f"{name or 'the network'} ({type(module).__name__})"


def note_of(step: int, pictures: int, count: int, *, drew: bool) -> str:
    """The note of a run whose steps are made in more parts from one on. drew: whether the network draws at random."""
    return (
        f"no memory was left for {pictures} pictures at once in step {step}; from there on a step is made in {count} "
        f"parts, {DRAWS if drew else SAME}"
    )
