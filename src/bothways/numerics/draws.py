"""Per-picture random numbers: a pure function of the picture's seed, the time t and the purpose.

    draw = G(SHA-256(seed, t, purpose))

No state is kept, so the draws of picture 17 are the same alone, in any batch, in any process, and after a resume.
They are made on the CPU and moved, so that a GPU run sees the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

SEEDS_OF_A_RUN = 1_000_000
THREADED_FROM = 100_000  # numbers of a picture: fewer are drawn before a thread has begun


def picture_seed(run_seed: int, index: int) -> int:
    """Seed of one picture of a run, independent of the batch and of the number of pictures."""
    return run_seed * SEEDS_OF_A_RUN + index


def generator(seed: int, t: float = 0.0, purpose: str = "") -> torch.Generator:
    """Random generator for one seed, time and purpose."""
    digest = hashlib.sha256(f"{seed}|{t:.9f}|{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Draws:
    """Random draws of a batch of pictures, with one generator per picture.

    seeds: one int per picture.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(int(seed) for seed in seeds)

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, shape: Sequence[int], t: float = 0.0, purpose: str = "noise") -> Tensor:
        """Samples of N(0, 1), (B, *shape) float32."""
        return self._each(torch.empty(len(self), *shape), lambda row, g: row.normal_(generator=g), t, purpose)

    def uniform(self, shape: Sequence[int], t: float = 0.0, purpose: str = "uniform") -> Tensor:
        """Samples of U[0, 1), (B, *shape) float32."""
        return self._each(torch.empty(len(self), *shape), lambda row, g: row.uniform_(generator=g), t, purpose)

    def integers(self, low: int, high: int, shape: Sequence[int], t: float = 0.0, purpose: str = "integers") -> Tensor:
        """Uniform integers from low to high, both included, (B, *shape)."""
        rows = torch.empty(len(self), *shape, dtype=torch.int64)
        return self._each(rows, lambda row, g: row.random_(low, high + 1, generator=g), t, purpose)

    def _each(self, rows: Tensor, draw: Callable[[Tensor, torch.Generator], Tensor], t: float, purpose: str) -> Tensor:
        """Draw the row of every picture; once for pictures of one seed, and large ones in as many threads as torch may
        use.

        torch fills a CPU tensor from a generator in one thread, which would keep a GPU waiting.
        """
        first = {seed: place for place, seed in reversed(list(enumerate(self.seeds)))}

        def fill(seed: int) -> None:
            draw(rows[first[seed]], generator(seed, t, purpose))

        threads = min(len(first), torch.get_num_threads())
        if threads > 1 and rows[0].numel() >= THREADED_FROM:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, first))
        else:
            for seed in first:
                fill(seed)
        if len(first) == len(self.seeds):
            return rows
        return rows[[first[seed] for seed in self.seeds]]
