"""How models see a picture: copies of it, put through views in order, each by its own draws.

A model that is shown one fixed picture can be fooled pixel by pixel; what survives many views is what it knows (DAS,
arXiv 2502.07753, sec. 3). A view is a frozen dataclass, or a function, of one call; each is a file here:

    (B,copies,3,H,W), the pictures' draws, the moment t -> (B,copies,3,h,w)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways import registry
from bothways.numerics.draws import Draws
from bothways.types import UserError

View = Callable[[Tensor, Draws, float], Tensor]


@dataclass(frozen=True)
class Views:
    """``copies`` of every picture, put through the views in order.

    (B,3,H,W) -> (B*copies,3,h,w), the copies of one picture side by side; differentiable in the picture.
    """

    copies: int = 1
    views: Sequence[View] = ()

    def __call__(self, image: Tensor, draws: Draws, t: float) -> Tensor:
        seen = image[:, None].expand(-1, self.copies, -1, -1, -1)
        for view in self.views:
            seen = view(seen, draws, t)
        return seen.flatten(0, 1)


def view_of(given: Any, settings: Mapping[str, Any], side: int) -> View:
    """A view by its name, PATH.py:NAME, class or function, with its settings. Raises UserError for what cannot be.

    side: pixels of the shorter side of the picture; a length below 1 is a share of it.
    """
    entry = registry.find("view", given)
    made = entry.factory
    if not isinstance(made, type):
        if settings or not callable(made):
            raise UserError(f"view {entry.name!r} is a function and takes no settings; leave them out")
        return made
    known = [f.name for f in fields(made)] if is_dataclass(made) else []
    for name in settings:
        if known and name not in known:
            raise UserError(f"view {entry.name!r} has no setting {name!r}; {registry.nearest(name, known)}")
    lengths = getattr(made, "lengths", ())
    if not all(math.isfinite(v) for v in map(_number, settings.values()) if isinstance(v, float)):
        raise UserError(f"view {entry.name!r} with {dict(settings)}: type finite numbers")
    try:
        return made(**{k: pixels(float(v), side) if k in lengths else _number(v) for k, v in settings.items()})
    except (TypeError, ValueError) as error:
        raise UserError(f"view {entry.name!r} with {dict(settings)}: {error}") from error


def usual_view(name: str, side: int) -> View:
    """A view with the settings that suit a picture of so many pixels, as the score function takes it."""
    made = registry.find("view", name).factory
    return made.usual(side) if hasattr(made, "usual") else made()


def pixels(length: float, side: int) -> int:
    """A length that is a share of the side below 1, and pixels from 1 on."""
    return round(length * side) if length < 1 else round(length)


def idle(view: View) -> bool:
    """Whether a view changes nothing, as one of no reach."""
    return bool(getattr(view, "idle", False))


def moves(view: View) -> bool:
    """Whether a view moves what is at a place to another."""
    return bool(getattr(view, "moves", False)) and not idle(view)


def on_canvas(view: View) -> bool:
    """Whether a view acts on the canvas with its border, before the picture is cut out of it."""
    return bool(getattr(view, "on_canvas", False))


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def moved(seen: Tensor, offset: Tensor, *, wrap: bool) -> Tensor:
    """Move copy (b, c) by offset[b, c] = (down, right)."""
    height, width = seen.shape[-2:]
    rows = torch.arange(height) - offset[..., :1]
    columns = torch.arange(width) - offset[..., 1:]
    if wrap:
        return _gather(seen, rows % height, columns % width)
    return _gather(seen, rows.clamp(0, height - 1), columns.clamp(0, width - 1))


def window(seen: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    return _gather(seen, corner[..., :1] + torch.arange(height), corner[..., 1:] + torch.arange(width))


def _gather(seen: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """seen (B,n,3,H,W), rows (B,n,h), columns (B,n,w) -> (B,n,3,h,w). A slice a copy, since its gradient is cheap."""
    rows, columns = rows.to(seen.device), columns.to(seen.device)
    taken = torch.take_along_dim(seen, rows[:, :, None, :, None], dim=-2)
    return torch.take_along_dim(taken, columns[:, :, None, None, :], dim=-1)


def noise_of_resolution(draws: Draws, height: int, width: int, low: int, purpose: str = "start") -> Tensor:
    """(B,3,H,W) of N(0, 1) drawn on a low x low grid and enlarged (bicubic): soft blobs to start from."""
    return F.interpolate(draws.normal((3, low, low), purpose=purpose), size=(height, width), mode="bicubic")
