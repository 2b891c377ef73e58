"""A velocity network of a user's own file: ``PATH.py:FUNCTION`` -> a module v(x, t), or v(t, x)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from bothways.faults import told
from bothways.registry import load_attribute
from bothways.types import UserError

ORDERS = {":xt": False, ":tx": True}  # suffix of the address -> whether the time comes first
FORM = "return a torch module alone, v(x, t) -> dx/dt with x (B,C,H,W) and t (B,) from 0 (noise) to 1 (picture)"


def split_order(address: str) -> tuple[str, bool | None]:
    """ "my.py:build:tx" -> ("my.py:build", True): the address, and whether the time comes first; None if unsaid."""
    for suffix, time_first in ORDERS.items():
        if address.endswith(suffix) and address.count(":") > 1:
            return address.removesuffix(suffix), time_first
    return address, None


def own_network(build: str, channels: int, size: Sequence[int]) -> nn.Module:
    """Build a network by a function or class of a user's file, with initial weights.

    channels, size: of the pictures; handed over by keyword where the function has parameters of these names, the size
    as one number for a square. Raises UserError where it fails, and for anything but a module with parameters.
    """
    made = load_attribute(build, "net")
    height, width = size
    facts: dict[str, Any] = {"channels": channels, "size": height if height == width else (height, width)}
    try:
        parameters = inspect.signature(made).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    try:
        network = made(**{name: value for name, value in facts.items() if name in parameters})
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"net {build!r} fails: {told(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"net {build!r} returns a {type(network).__name__}; {FORM}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"net {build!r} returns a module without parameters to train; {FORM}")
    return network
