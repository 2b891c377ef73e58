"""POT: the assignment of a batch, and the entropic plan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from flows import states
from pairs import Work, largest, main

from bothways.representation.couplings import squared_distances
from bothways.representation.couplings.ot import ot as our_pairing
from bothways.representation.couplings.sinkhorn import REGULARIZATION, SINKHORN_STEPS, sinkhorn_plan

PEER = "POT"


def works(small: bool) -> Iterator[Work]:
    import ot

    for count in (8,) if small else (128, 512):
        x, noise, _ = states(count)
        rows, columns = (part.flatten(1).numpy() for part in (x, noise))
        costs = squared_distances(x, noise)

        def theirs(rows=rows, columns=columns) -> torch.Tensor:
            return torch.from_numpy(ot.emd([], [], ot.dist(rows, columns)).argmax(1))

        def total(chosen: torch.Tensor, costs=costs) -> float:
            return float(costs.gather(1, chosen[:, None]).mean())

        yield Work(
            f"pairing by optimal transport, {count} pictures of 32 px", PEER, theirs,
            lambda x=x, noise=noise: our_pairing(x, noise), "the cost of the plan, relative",
            lambda a, b, total=total: abs(total(b) / total(a) - 1), 1e-6,
            lambda *_: "ours of distances in float64",
        )  # fmt: skip
    yield entropic(8 if small else 128)


def entropic(count: int) -> Work:
    """The plan after as many iterations."""
    import ot

    costs = squared_distances(*states(count)[:2])
    scaled, even = (costs / costs.mean()).numpy(), np.full(count, 1 / count)

    def theirs() -> torch.Tensor:
        options = {"numItermax": SINKHORN_STEPS, "stopThr": 0, "warn": False}
        return torch.from_numpy(ot.bregman.sinkhorn_log(even, even, scaled, REGULARIZATION, **options))

    return Work(
        f"entropic plan, {SINKHORN_STEPS} iterations in the log domain, {count} x {count}", PEER, theirs,
        lambda: sinkhorn_plan(costs), "the sums of the columns, which the iteration brings to 1",
        lambda theirs, ours: largest(theirs.sum(0) * count, ours.exp().sum(0)), 1e-2,
    )  # fmt: skip


if __name__ == "__main__":
    main(works)
