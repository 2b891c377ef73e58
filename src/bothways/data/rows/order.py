"""The order of an epoch, as a function of (seed, epoch): of all pictures, or of a stream with a shuffle buffer.

    all       a permutation of 0..N-1
    stream    the shards in a random order, one after the other; picture i of that order comes at the rank of i + K u_i,
              u_i ~ U[0, 1), K the buffer, so less than K places earlier or later

That of a stream needs the number of pictures in each shard and not their bytes, so a run resumes where it was without
reading what came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from bothways.numerics.draws import generator


@lru_cache(maxsize=2)
def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation (count,)."""
    return torch.randperm(count, generator=generator(seed, epoch, "order"))


def by_shards(places: Tensor, begins: Sequence[int], seed: int, epoch: int) -> Tensor:
    """Indices (N,) that put rows in a random order of the shards, those of each in their own order.

    places: (N,), the number of each row in the whole source. begins: the rows with which the shards begin.
    """
    shard = torch.bucketize(places, torch.tensor(begins), right=True) - 1
    turn = torch.randperm(len(begins), generator=generator(seed, epoch, "shards"))
    return torch.argsort(turn[shard] * (int(places.max()) + 1) + places)


def streamed(places: Tensor, begins: Sequence[int], buffer: int, seed: int, epoch: int) -> Tensor:
    """Indices (N,) of the order of a stream. buffer: K. places, begins: as for ``by_shards``."""
    drawn = torch.rand(len(places), generator=generator(seed, epoch, "order"), dtype=torch.float64)
    rank = torch.argsort(torch.arange(len(places)) + buffer * drawn, stable=True)
    return by_shards(places, begins, seed, epoch)[rank]
