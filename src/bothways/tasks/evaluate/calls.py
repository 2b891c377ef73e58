"""The network calls of an evaluation, counted as they are made, for solvers that choose their own steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager as Context
from contextlib import contextmanager, nullcontext

from torch import nn


class Calls:
    """The calls of a flow's network. A call of a batch is one for each of its pictures.

    batch: those of the present one.
    """

    def __init__(self) -> None:
        self.batch = 0

    def of_batch(self) -> int:
        """The calls of a batch that ends now."""
        found, self.batch = self.batch, 0
        return found


@contextmanager
def _counted(flow: nn.Module) -> Iterator[Calls]:
    calls = Calls()

    def one(*_: object) -> None:
        calls.batch += 1

    hook = flow.register_forward_pre_hook(one)  # before it: a pass for activations stops inside
    try:
        yield calls
    finally:
        hook.remove()


def counting(flow: nn.Module | None) -> Context[Calls | None]:
    """The context in which the calls of a flow are counted; of None nothing is."""
    return nullcontext() if flow is None else _counted(flow)
