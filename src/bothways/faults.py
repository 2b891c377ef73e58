"""What a user's own code raises, as one line with the file, the line in it and the function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from traceback import walk_tb
from types import FrameType, NoneType
from typing import Any

from bothways.brief import shown, wrong_kind
from bothways.types import RunError, UserError

MODULES = "bothways_user_"  # what the names of modules begin with that are users' files
NO_GRAPH = ("does not require grad", "not have been used in the graph")  # torch's words for values without a gradient
CUTS = "leave out of its forward what cuts it, such as detach(), no_grad(), item(), numpy() or argmax()"
LONGEST = 300  # characters of what an exception says


def told(error: BaseException) -> str:
    """What an exception says, in a line: "KeyError: 'size' (my.py, line 12, in build)"; the place where it is known."""
    words = " ".join(str(error).split())
    words = words if len(words) <= LONGEST else words[:LONGEST] + " ..."
    left = ", since it calls sys.exit()" if isinstance(error, SystemExit) else ""
    return f"{type(error).__name__}{': ' if words else ''}{words}{left}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """Where in a user's file an exception was raised, such as " (my.py, line 12, in build)"; "" for elsewhere."""
    if (found := _last_of(error)) is None:
        return ""
    frame, line = found
    return f" ({Path(frame.f_code.co_filename).name}, line {line}, in {frame.f_code.co_name})"


def _last_of(error: BaseException) -> tuple[FrameType, int] | None:
    """The innermost frame of a user's file that an exception passed, and the line in it."""
    frames = [
        (frame, line)
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).startswith(MODULES)
    ]
    return frames[-1] if frames else None


@contextmanager
def users_code() -> Iterator[None]:
    """A context in which whatever a user's file raises becomes a UserError of one line; sys.exit() in it, too.

    So does torch's refusal to differentiate what has no gradient, which only what is given can lack.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_GRAPH):
            raise UserError(f"a model or a function gives values without a gradient; {CUTS}") from error
        if (found := _last_of(error)) is None:
            raise
        raise UserError(f"{found[0].f_code.co_filename} fails: {told(error)}; mend it there") from error


def call(kind: str, made: Callable[..., Any], *given: Any, kept: bool = False) -> Any:
    """What a user's own function gives. Raises UserError in one line for what it raises.

    kept: whether it must leave the tensors that it is given as they are, since others are given them too.
    """
    before = _versions(given)
    name = getattr(made, "__name__", type(made).__name__)
    try:
        found = made(*given)
    except (UserError, RunError):
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} {name!r} fails: {told(error)}") from error
    if kept and _versions(given) != before:
        raise UserError(f"{kind} {name!r} changes what it is given; work on a copy, such as images.clone()")
    return found


def _versions(given: Sequence[Any]) -> list[int]:
    """How often each tensor was written to, as torch counts it; it does not where it records no gradient at all."""
    tensors = (one for one in given if hasattr(one, "is_inference"))
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


class Uncompiled(SourceFileLoader):
    """The loader of a user's file, which compiles it anew.

    Python keeps compiled files by their second and size, which a file that is edited may not change.
    """

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def check_takes(kind: str, name: str, made: Callable[..., Any], *takes: str) -> None:
    """Raise UserError for a function that cannot be called with so many positional arguments, whose names are given."""
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # one in C, which may not tell
        return
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise UserError(f"{kind} {name!r} takes {signature}; write it as ({', '.join(takes)})") from error


def check_kinds(function: str, **given: tuple[Any, Any]) -> None:
    """Raise UserError for an argument of a public function, by its name, that is none of its classes."""
    if wrong := wrong_kind(given):
        raise UserError(f"{function}: {wrong}")


def check_amounts(function: str, **given: Any) -> None:
    """Raise UserError for an argument of a public function, by its name, that is no whole number from 1 on, or None."""
    for name, value in given.items():
        check_kinds(function, **{name: (value, (int, NoneType))})
        if value is not None and value < 1:
            raise UserError(f"{function}: {name} is {shown(value)}; give a number of 1 or more")
