"""Whether the objective of a drawing rose: its value at the start and at the end, over all batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bothways.types import Frame

SHARE = 4  # the first and the last such part of the steps are averaged, since views are drawn at random
ENOUGH = 8  # steps from which a value that does not rise is more than the chance of the views


@dataclass(frozen=True)
class Rise:
    """The mean value of a term at the start and at the end of a drawing of so many steps."""

    name: str
    first: float
    last: float
    steps: int

    def __str__(self) -> str:
        how = "rose" if self.last > self.first else "did not rise"
        return f"{self.name} {how}: {self.first:.3g} to {self.last:.3g}"


def rises(frames: Iterable[Frame], names: Sequence[str]) -> list[Rise]:
    """The Rise of each of these terms, of batches of two steps or more; [] where there are none."""
    batches: dict[int, list[Frame]] = {}
    for frame in frames:
        batches.setdefault(frame.batch or 0, []).append(frame)
    found = []
    for name in names:
        values = [[step.stats[name] for step in steps if name in step.stats] for steps in batches.values()]
        kept = [own for own in values if len(own) > 1]
        if kept:
            first, last = (sum(map(mean, kept)) / len(kept) for mean in (_start, _end))
            found.append(Rise(name, first, last, max(map(len, kept))))
    return found


def warn_of_no_rise(found: Sequence[Rise]) -> None:
    """Warn where no term of the target rose, of a drawing of some steps."""
    if found and all(one.steps >= ENOUGH and one.last <= one.first for one in found):
        told = "; ".join(map(str, found))
        warnings.warn(f"{told}: the target is not reached; take another layer or class, or more steps", stacklevel=2)


def told_of_rises(found: Sequence[Rise]) -> Iterator[str]:
    """A line for a terminal."""
    if found:
        yield "; ".join(map(str, found))


def _start(values: Sequence[float]) -> float:
    part = values[: max(1, len(values) // SHARE)]
    return sum(part) / len(part)


def _end(values: Sequence[float]) -> float:
    return _start(list(reversed(values)))
