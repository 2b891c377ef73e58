"""The corruptions that a scorecard tells from real pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bothways.data.corruptions import corrupt
from bothways.numerics.draws import Draws
from bothways.tasks.scorecard.quantities import Condition
from bothways.types import UserError

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5)  # of Gaussian noise, in units of the [0, 1] image
DAMAGE = {"blur 1.5": ("blur", 1.5), "grey": ("grey", 1.0), "shuffled": ("shuffled", 1.0)}


def conditions(more: Sequence[str] = ()) -> list[Condition]:
    """The conditions: unclipped Gaussian noise at every level of LEVELS, those of DAMAGE, and more as "KIND:LEVEL".

    Raises UserError for a kind or level that is none, and for noise of one of LEVELS, which would have one name.
    """

    def by(kind: str, level: float, clip: bool) -> Callable[[Tensor, Draws], Tensor]:
        return lambda images, draws: corrupt(images, kind, level, draws, clip=clip)

    noise = [Condition(f"noise {level:g}", by("noise", level, False), level) for level in LEVELS]
    own = {given.replace(":", " "): _kind_and_level(given) for given in more}
    if twice := sorted({condition.name for condition in noise} & own.keys()):
        typed = twice[0].replace(" ", ":")
        raise UserError(f"damage {typed!r} is measured by every scorecard, without clipping; leave it out")
    damage = {**DAMAGE, **own}
    return noise + [Condition(name, by(kind, level, True)) for name, (kind, level) in damage.items()]


def _kind_and_level(given: str) -> tuple[str, float]:
    """The corruption of "KIND:LEVEL". Raises UserError for another form, and what ``corrupt`` refuses."""
    kind, _, level = given.partition(":")
    try:
        found = kind, float(level)
    except ValueError as error:
        raise UserError(f"damage {given!r} is not KIND:LEVEL; type one such as fog:1 or roll:0.25") from error
    corrupt(torch.zeros(1, 3, 8, 8), *found, Draws([0]))
    return found
