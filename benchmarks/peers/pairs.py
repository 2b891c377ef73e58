"""The same work done by a peer and by bothways, timed in turns by one process, and whether they agree.

A time is of the process (CPU seconds, one thread), so that others on the machine count for little; a ratio is the
median over pairs of runs of ours / theirs, the two in an order that alternates. A script of a group gives its ``Work``
to ``main``, which prints a row of JSON for each. Where results must agree and do not, it ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bothways.numerics.intervals import Estimate

PAIRS = 9
AT_LEAST = 0.03  # seconds of the shorter of two runs: what is faster is repeated within a run


class Work(NamedTuple):
    """What both do.

    peer: distribution name. theirs, ours: the work. difference: (their result, ours) -> how far apart the two are in
    what ``of`` says; no more than ``tolerance``, None where the results are not the same thing. units: in one run.
    """

    name: str
    peer: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    of: str = ""
    difference: Callable[[Any, Any], float] = lambda theirs, ours: math.nan
    tolerance: float | None = None
    note: Callable[[Any, Any], str] = lambda theirs, ours: ""
    units: int = 1


def compare(work: Work, pairs: int = PAIRS) -> dict[str, Any]:
    """A row of a work. Raises ValueError where the results differ by more than the tolerance, or by NaN."""
    theirs, ours = work.theirs(), work.ours()
    difference = work.difference(theirs, ours)
    if work.tolerance is not None and not difference <= work.tolerance:
        raise ValueError(f"{work.name}: {work.peer} and bothways differ by {difference:.3g} in {work.of}, at most "
                         f"{work.tolerance:g}")  # fmt: skip
    note = work.note(theirs, ours)
    del theirs, ours
    runs = (work.theirs, work.ours)
    times = 1 + int(AT_LEAST / max(min(seconds(run, 1) for run in runs), 1e-6))
    taken: list[list[float]] = [[], []]
    for turn in range(pairs):
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            taken[place].append(seconds(runs[place], times) / times / work.units)
    ratio = median_interval([b / a for a, b in zip(*taken, strict=True)])
    return {
        "work": work.name,
        "peer": work.peer,
        "version": version(work.peer),
        "theirs_ms": significant(1000 * statistics.median(taken[0])),
        "ours_ms": significant(1000 * statistics.median(taken[1])),
        **{key: significant(value) for key, value in zip(("ratio", "low", "high"), ratio, strict=True)},
        "pairs": pairs,
        "of": work.of,
        "difference": significant(difference, 2),
        "tolerance": work.tolerance,
        "note": note,
    }


def seconds(run: Callable[[], Any], times: int) -> float:
    """CPU seconds of this process for so many runs."""
    began = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - began


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The median and its distribution-free interval, the k-th smallest and largest value; NaN ends below six values.

    k is the largest with 2 P(Bin(n, 1/2) < k) <= 1 - confidence.
    """
    ordered, n = sorted(values), len(values)
    k, below = 0, 0.0
    while 2 * (below + math.comb(n, k) / 2**n) <= 1 - confidence:
        below += math.comb(n, k) / 2**n
        k += 1
    low, high = (ordered[k - 1], ordered[n - k]) if k else (math.nan, math.nan)
    return Estimate(statistics.median(ordered), low, high)


def significant(value: float, digits: int = 4) -> float:
    """A number with so many digits."""
    return float(f"{value:.{digits - 1}e}")


def largest(theirs: Any, ours: Any) -> float:
    """The largest absolute difference of two tensors, or of two tuples of them."""
    if isinstance(theirs, Tensor | float):
        return float((torch.as_tensor(theirs).double() - torch.as_tensor(ours).double()).abs().max())
    return max(largest(a, b) for a, b in zip(theirs, ours, strict=True))


def relative(theirs: Any, ours: Any) -> float:
    """The difference of two tensors by the L2 norm, as a share of the first."""
    return float((ours - theirs).norm() / theirs.norm())


def main(works: Callable[[bool], Iterable[Work]]) -> None:
    """Compare the works of a group: a row of JSON each. --small: a size that shows whether all runs, and no more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")
    try:
        for work in works(options.small):
            print(json.dumps(compare(work, options.pairs)), flush=True)
    except ValueError as error:
        sys.exit(str(error).splitlines()[0])
