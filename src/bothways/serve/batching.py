"""Pictures of concurrent requests are answered together, by one thread a model.

The thread never waits for a batch to fill: while it computes one, others gather, so that a picture that comes alone is
answered at once. Only pictures with the same key, such as the layers that are read, share a batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bothways.types import RunError, UserError

Answer = Callable[[Any, Tensor], Sequence[Any]]
"""(key, images (B,3,H,W)) -> an answer of each picture."""


class FullError(RunError):
    """Too many wait already."""


@dataclass
class _Waiting:
    key: Hashable
    image: Tensor
    answered: Future[Any] = field(default_factory=Future)


class Batcher:
    """The pictures that wait for a model, and the thread that answers them, the oldest first.

    answer: computes a batch. most: pictures of one batch. room: pictures that may wait. told: called with the size of
    every batch.
    """

    def __init__(self, answer: Answer, most: int, room: int, told: Callable[[int], None] = lambda size: None) -> None:
        self._answer, self._most, self._room, self._told = answer, most, room, told
        self._waiting: deque[_Waiting] = deque()
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="bothways batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that wait; those of the batch that is being computed are not counted."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    def submit(self, key: Hashable, image: Tensor) -> Future[Any]:
        """The answer to come of a picture (3,H,W); one that is cancelled in time is not computed.

        Raises FullError where too many wait, or no more are taken.
        """
        one = _Waiting(key, image)
        with self._changed:
            self.check()
            self._waiting.append(one)
            self._changed.notify()
        return one.answered

    def check(self) -> None:
        """Raise FullError where ``submit`` would."""
        if self._closing:
            raise FullError("the service is stopping")
        if len(self._waiting) >= self._room:
            raise FullError(f"{self._room} pictures wait already, which are the most; ask again in a second")

    def close(self) -> None:
        """Answer what waits, take no more, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            batch = [one for one in batch if one.answered.set_running_or_notify_cancel()]
            if batch:
                self._told(len(batch))
                self._compute(batch)

    def _next(self) -> list[_Waiting]:
        """The oldest picture and those of its key, in order; none where all is answered and it is to end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            taken: list[_Waiting] = []
            left: deque[_Waiting] = deque()
            for one in self._waiting:
                chosen = len(taken) < self._most and (not taken or one.key == taken[0].key)
                (taken if chosen else left).append(one)
            self._waiting = left
            return taken

    def _compute(self, batch: Sequence[_Waiting]) -> None:
        try:
            found = self._answer(batch[0].key, torch.stack([one.image for one in batch]))
        except Exception as error:  # a user's own model may raise anything, and the thread goes on
            if len(batch) > 1 and not isinstance(error, UserError):  # one of them, or their number
                for one in batch:
                    self._compute([one])
                return
            for one in batch:
                one.answered.set_exception(error)
            return
        for one, own in zip(batch, found, strict=True):
            one.answered.set_result(own)
