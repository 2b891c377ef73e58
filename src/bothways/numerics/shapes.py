"""Operations on the device "meta", whose tensors have a shape and no numbers, worked out once for each kind of input.

torch works out shapes in Python, some tenths of a millisecond an operation; a network calls the same operations on the
same shapes in every block, every step and every count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MOST = 20_000  # kinds of calls that are kept
# (shape, stride, dtype) of what each kind of call gives: of a tensor, or of several; () where it must be called again.
_GIVEN: dict[Any, Any] = {}


def called(func: Any, args: Any, kwargs: Any) -> Any:
    """func(*args, **kwargs), of an operation of torch: new tensors of the shapes that it gave for such arguments."""
    key = _key(func, args, kwargs)
    if key is None:
        return func(*args, **kwargs)
    forms = _GIVEN.get(key)
    if forms is None:
        found = func(*args, **kwargs)
        if len(_GIVEN) >= MOST:
            _GIVEN.clear()
        _GIVEN[key] = _forms(found)
        return found
    if not forms:
        return func(*args, **kwargs)
    if isinstance(forms, list):
        return tuple(None if one is None else _empty(one) for one in forms)
    return _empty(forms)


class Remembered(TorchDispatchMode):
    """What is computed within it on the device "meta" is worked out once for each kind of input."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return called(func, args, kwargs or {})


class _Other(Exception):  # noqa: N818 - it is no error
    """An argument on which more depends than its form."""


def _key(func: Any, args: Any, kwargs: Any) -> Any:
    """What the shapes depend on; None where they may depend on more, and where an argument is written or given on."""
    schema = func._schema
    if schema.is_mutable or any(one.alias_info is not None for one in schema.returns):
        return None
    try:
        return func, _plain(args), tuple((name, _plain(kwargs[name])) for name in sorted(kwargs))
    except _Other:
        return None


def _plain(given: Any) -> Any:
    if isinstance(given, Tensor):
        if not given.is_meta:
            raise _Other
        return _form(given)
    if isinstance(given, list | tuple):
        return tuple([_plain(one) for one in given])
    return type(given), given  # 1, 1.0 and True are one key otherwise, and give other types


def _forms(found: Any) -> Any:
    """The forms of new tensors; () where they share memory, have more than their shape says, or are none."""
    if isinstance(found, Tensor):
        return _form(found) if _is_whole(found) else ()
    if not isinstance(found, tuple) or not all(one is None or isinstance(one, Tensor) for one in found):
        return ()
    tensors = [one for one in found if one is not None]
    apart = len({one.untyped_storage()._cdata for one in tensors}) == len(tensors)
    new = apart and all(map(_is_whole, tensors))
    return [one if one is None else _form(one) for one in found] if new else ()


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor has no numbers, and no more memory than one of its form."""
    like = _empty(_form(tensor))
    return tensor.is_meta and tensor.untyped_storage().nbytes() == like.untyped_storage().nbytes()


def _empty(form: tuple[Any, ...]) -> Tensor:
    return torch.empty_strided(form[0], form[1], dtype=form[2], device="meta")
