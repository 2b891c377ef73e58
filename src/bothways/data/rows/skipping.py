"""Pictures that cannot be read: noted where they are met, in whichever process, and told where batches are used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NAMED = 5  # that are told one by one

_NOTED: ContextVar[dict[str, str] | None] = ContextVar("noted", default=None)


@contextmanager
def noting() -> Iterator[dict[str, str]]:
    """A context with {name: why} of the unreadable pictures that are met within."""
    found: dict[str, str] = {}
    token = _NOTED.set(found)
    try:
        yield found
    finally:
        _NOTED.reset(token)


def note(name: str, why: str) -> None:
    """Note an unreadable picture; outside of ``noting`` it is a warning."""
    held = _NOTED.get()
    if held is None:
        warnings.warn(f"unreadable picture {name}: {why}", stacklevel=3)
    else:
        held[name] = why


def tell(new: dict[str, str], told: dict[str, str]) -> None:
    """Warn of the pictures that are not in ``told`` yet, the first few by name, and add them."""
    for name, why in new.items():
        if name not in told:
            told[name] = why
            if len(told) <= NAMED:
                warnings.warn(f"unreadable picture {name}: {why}; another takes its place", stacklevel=3)


def tell_count(told: dict[str, str]) -> None:
    """Warn of how many there were, if there were any."""
    if told:
        warnings.warn(f"{len(told)} unreadable pictures were met, and others took their places", stacklevel=3)
