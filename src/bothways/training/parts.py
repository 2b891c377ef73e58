"""A batch in equal parts, and in more of them where no memory is left for a step: the same step in less memory.

gradient = mean over parts of the gradient of a part
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

from bothways.budget import no_memory_left
from bothways.types import RunError, UserError

# The words of what another number of parts changes, for the note of a run; nothing else of a step depends on it.
SAME, DRAWS = "the same step but for rounding", "the same step but for rounding and the draws of its dropout"


def parts(batch: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """A batch in equal parts, each tensor by its own number of rows. Raises UserError for rows that do not divide."""
    if odd := [len(rows) for rows in batch if len(rows) % count]:
        raise UserError(f"accumulate={count} does not divide {odd[0]} rows of a batch; type a --batch that it divides")
    return list(zip(*(rows.chunk(count) for rows in batch), strict=True))


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
