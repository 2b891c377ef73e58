"""``encode`` and ``decode`` for flows given by a run, an address or an object."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from bothways.models.loader import load_flow
from bothways.representation import encode as walking

Options = ParamSpec("Options")
Walked = TypeVar("Walked")


def _by_address(walk: Callable[Concatenate[Any, Options], Walked]) -> Callable[Concatenate[Any, Options], Walked]:
    """A walk whose flow may be an address; such a flow is not trained, so that no walk keeps a graph for it."""

    @wraps(walk)
    def call(flow: Any, *given: Options.args, **options: Options.kwargs) -> Walked:
        loaded = load_flow(flow).requires_grad_(False) if isinstance(flow, str | Path) else flow
        return walk(loaded, *given, **options)

    return call


encode, decode = _by_address(walking.encode), _by_address(walking.decode)
