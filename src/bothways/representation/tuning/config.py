"""Which parameters of a flow-based classifier are trained, as the settings name it. Free of torch."""

from __future__ import annotations

from typing import NamedTuple

from bothways.types import UserError

CHOICES = "all, head, last:N, bias, lora:RANK"


class Tune(NamedTuple):
    """kind: all, head, last, bias or lora. number: the blocks of last, the rank of lora; 0 for the others."""

    kind: str
    number: int = 0


def tune_of(text: str) -> Tune:
    """Read ``all``, ``head``, ``bias``, ``last:N`` or ``lora:RANK``. Raises UserError for anything else."""
    kind, colon, number = str(text).strip().partition(":")
    if kind in ("all", "head", "bias") and not colon:
        return Tune(kind)
    if kind not in ("last", "lora"):
        raise UserError(f"tune={text!r} is not known; type one of {CHOICES}")
    if not (number.isascii() and number.isdecimal() and 0 < int(number) < 2**20):
        raise UserError(f"tune={text!r} needs a whole number from 1 on; type {kind}:{2 if kind == 'last' else 4}")
    return Tune(kind, int(number))
