"""Views: random augmentations of image copies, applied in order before a model sees them.

Averaging the gradient over many views suppresses adversarial pixel patterns (DAS, arXiv 2502.07753, sec. 3). A view is
a frozen dataclass or a function with one call; each is a file here:

    (B,copies,3,H,W), the pictures' draws, time t -> (B,copies,3,h,w)
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
from bothways.brief import shown
from bothways.faults import check_takes
from bothways.numerics.draws import Draws
from bothways.numerics.fast import laid_out, rolled
from bothways.types import UserError

FARTHEST = 2**31 - 1  # pixels that a copy is moved, at most
TAKES = ("copies", "draws", "t")
View = Callable[[Tensor, Draws, float], Tensor]


@dataclass(frozen=True)
class Views:
    """A composition of views on ``copies`` of every picture.

    (B,3,H,W) -> (B*copies,3,h,w), the copies of a picture in consecutive rows; differentiable in the picture.
    """

    copies: int = 1
    views: Sequence[View] = ()

    def __call__(self, image: Tensor, draws: Draws, t: float) -> Tensor:
        seen = image[:, None].expand(-1, self.copies, -1, -1, -1)
        for view in self.views:
            seen = checked(view, view(seen, draws, t), seen)
        return laid_out(seen.flatten(0, 1))


def checked(view: View, found: Any, seen: Tensor) -> Tensor:
    """What a view gave of the copies ``seen``. Raises UserError unless it is copies too, with their gradient."""
    if not isinstance(found, Tensor) or found.shape[:3] != seen.shape[:3] or found.ndim != 5 or 0 in found.shape:
        what = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise UserError(
            f"view {registry.name_of(view)!r} gives {what} for {tuple(seen.shape)}; return (B,copies,3,h,w), the same "
            "copies"
        )
    if not found.is_floating_point() or (seen.requires_grad and torch.is_grad_enabled() and not found.requires_grad):
        raise UserError(
            f"view {registry.name_of(view)!r} gives {found.dtype} without a gradient; leave out detach(), no_grad(), "
            "numpy() and rounding"
        )
    return found


def view_of(given: Any, settings: Mapping[str, Any], side: int) -> View:
    """View from a name, PATH.py:NAME, class or function, with its settings. Raises UserError if invalid.

    side: shorter side of the picture in pixels; a length below 1 is a share of it.
    """
    entry = registry.find("view", given)
    made = entry.factory
    if not isinstance(made, type):
        if settings or not callable(made):
            raise UserError(f"view {entry.name!r} is a function without settings; leave them out")
        check_takes("view", entry.name, made, *TAKES)
        return made
    known = {f.name: f.type for f in fields(made)} if is_dataclass(made) else {}
    for name, value in settings.items():
        if known and name not in known:
            raise UserError(f"view {entry.name!r} has no setting {name!r}; {registry.nearest(name, list(known))}")
        number = _number(value)
        numeric = known.get(name) in ("float", "int", float, int) and not isinstance(number, int | float)
        if numeric or (isinstance(number, float) and not math.isfinite(number)):
            raise UserError(f"view {entry.name!r} with {name}={shown(value)}: type a finite number")
    lengths = getattr(made, "lengths", ())
    try:
        view = made(**{k: pixels(float(v), side) if k in lengths else _number(v) for k, v in settings.items()})
    except (TypeError, ValueError) as error:
        raise UserError(f"view {entry.name!r} with {dict(settings)}: {error}") from error
    if not callable(view):
        raise UserError(f"view {entry.name!r} is a class without __call__; write __call__(self, {', '.join(TAKES)})")
    check_takes("view", entry.name, view, *TAKES)
    return view


def usual_view(name: str, side: int) -> View:
    """A view with its default settings for a picture of ``side`` pixels, as used by the score function."""
    made = registry.find("view", name).factory
    return made.usual(side) if hasattr(made, "usual") else made()


def pixels(length: float, side: int) -> int:
    """A length in pixels: below 1 it is a share of the side."""
    return round(length * side) if length < 1 else round(length)


def check_reach(reach: int) -> None:
    """Raise ValueError for a reach in pixels that is none."""
    if not 0 <= reach <= FARTHEST:
        raise ValueError(f"reach is a share below 1, or from 0 to {FARTHEST} pixels")


def idle(view: View) -> bool:
    """Whether a view is the identity, such as a shift of reach 0."""
    return bool(getattr(view, "idle", False))


def moves(view: View) -> bool:
    """Whether a view changes the position of image content."""
    return bool(getattr(view, "moves", False)) and not idle(view)


def for_model(view: View, height: int, width: int) -> View:
    """A view for a model whose input has so many pixels: a window is as large."""
    return view.of_model(height, width) if sized(view) else view  # type: ignore[attr-defined]


def sized(view: View) -> bool:
    """Whether a view gives pictures of the size of the model's input, whatever the size of the canvas."""
    return hasattr(view, "of_model")


def on_canvas(view: View) -> bool:
    """Whether a view acts on the canvas with its border, before the picture is cropped from it."""
    return bool(getattr(view, "on_canvas", False))


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def moved(seen: Tensor, offset: Tensor, *, wrap: bool) -> Tensor:
    """Translate copy (b, c) by offset[b, c] = (down, right), with wrapped or replicated edges."""
    if wrap and seen.device.type == "cpu":  # a tenth of the time; a GPU would begin four copies for each of them
        return rolled(seen, offset.tolist())
    height, width = seen.shape[-2:]
    rows = torch.arange(height) - offset[..., :1]
    columns = torch.arange(width) - offset[..., 1:]
    if wrap:
        return _gather(seen, rows % height, columns % width)
    return _gather(seen, rows.clamp(0, height - 1), columns.clamp(0, width - 1))


def window(seen: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    """Crop height x width pixels of copy (b, c) at corner[b, c] = (top, left)."""
    return _gather(seen, corner[..., :1] + torch.arange(height), corner[..., 1:] + torch.arange(width))


def _gather(seen: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Gather rows (B,n,h) and columns (B,n,w) of each copy of seen (B,n,3,H,W) -> (B,n,3,h,w)."""
    rows, columns = rows.to(seen.device), columns.to(seen.device)
    taken = torch.take_along_dim(seen, rows[:, :, None, :, None], dim=-2)
    return torch.take_along_dim(taken, columns[:, :, None, None, :], dim=-1)


def noise_of_resolution(draws: Draws, height: int, width: int, low: int, purpose: str = "start") -> Tensor:
    """Low-resolution noise (B,3,H,W): N(0, 1) on a low x low grid, upsampled bicubically."""
    return F.interpolate(draws.normal((3, low, low), purpose=purpose), size=(height, width), mode="bicubic")
