"""The network calls of an evaluation, counted as they are made, for solvers that choose their own steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager as Context
from contextlib import contextmanager, nullcontext

from torch import nn


class Calls:
    """The calls of a flow's network. A call of a batch is one for each of its pictures.

    per_picture: the mean over the pictures, whose batches may take different numbers of steps.
    """

    def __init__(self) -> None:
        self.batch = 0
        self._sum, self._pictures = 0, 0

    def add(self, pictures: int) -> None:
        """The end of a batch."""
        self._sum, self._pictures, self.batch = self._sum + self.batch * pictures, self._pictures + pictures, 0

    @property
    def per_picture(self) -> float:
        return self._sum / max(1, self._pictures)


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
