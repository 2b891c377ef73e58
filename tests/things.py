"""Anything that may stand for an argument, as a number draws it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from bothways import ModelSpec

NUMBERS = (
    0,
    1,
    2,
    3,
    -1,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.5,
    -0.0,
    1e-320,
    1e38,
    1e308,
    float("nan"),
    float("inf"),
    1 + 2j,
)
TEXTS = (
    "",
    " ",
    "x",
    "0",
    "1",
    "nan",
    "a\nb",
    "\0",
    "\ud800",
    "\x1b[31m",
    "[1]",
    "x.png",
    "x.py:build",
    "n" * 300,
    ".",
)
SHAPES = ((), (0,), (3,), (2, 3), (3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8), (1, 3, 16, 16), (2, 3, 16, 16), (0, 3, 8, 8),
          (1, 1, 8, 8), (1, 4, 9, 7), (1, 1, 3, 8, 8))  # fmt: skip
VALUES = (0.0, 0.5, 1.0, -1.0, 300.0, float("nan"), float("inf"))
KINDS = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64)
OBJECTS: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: True, lambda: False, object, lambda: int, lambda: ..., lambda: len,
    lambda: lambda *given: None, lambda: b"",
    lambda: b"\x00\xff", list, lambda: [1], lambda: [None], lambda: ["x"], lambda: [[0, 1], [2]],
    lambda: [float("nan")], dict, lambda: {"x": 1}, lambda: {1: 2}, lambda: {"kind": None}, tuple, lambda: (1, 2, 3),
    set, lambda: {"x"}, lambda: range(3), lambda: iter([1]), lambda: (k for k in "ab"), lambda: Path("x"),
    lambda: Path("x.toml"), lambda: np.zeros(3), lambda: np.array(["x", None], object), lambda: np.float32(1),
    lambda: torch.nn.Identity(), lambda: torch.device("cpu"), lambda: ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 3),
)  # fmt: skip


def thing(draw: Random) -> Any:
    """Anything that may stand for an argument."""
    way = draw.randrange(5)
    if way == 0:
        return draw.choice(NUMBERS)
    if way == 1:
        return draw.choice(TEXTS)
    if way == 2:
        made = torch.full(draw.choice(SHAPES), draw.choice(VALUES))
        kind = draw.choice(KINDS)
        made = made if kind.is_floating_point or kind.is_complex else made.nan_to_num(0.0, 1.0, 0.0)
        return made.to(kind) if draw.randrange(4) else made.to(kind).resolve_conj().numpy()
    return draw.choice(OBJECTS)()
