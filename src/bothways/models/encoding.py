"""``encode`` and ``decode`` for flows given by a run, an address or an object, and images in any form."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from bothways.brief import brief
from bothways.data.given import fitted_pictures, pictures_of
from bothways.models.loader import load_flow
from bothways.representation import encode as walking
from bothways.types import Flow, ModelSpec, UserError

Options = ParamSpec("Options")
Result = TypeVar("Result")


def _by_address(
    walk: Callable[Concatenate[Any, Any, Options], Result], *, images: bool
) -> Callable[Concatenate[Any, Any, Options], Result]:
    """Let an address stand for the flow of a walk; such a flow is not trained, so that no graph is kept for it.

    images: whether what is walked are images, which may be paths, or pictures of PIL or numpy, fitted to the flow.
    """

    signed = signature(walk)
    what = list(signed.parameters)[1]

    @wraps(walk)
    def call(*given: Any, **options: Any) -> Result:
        bound = signed.bind(*given, **options)
        flow = bound.arguments["flow"]
        loaded = load_flow(flow).requires_grad_(False) if isinstance(flow, str | Path) else flow
        if not callable(loaded) or isinstance(loaded, type):
            raise UserError(f"flow is {brief(flow)}; give a run, an address, a flow, or a velocity v(x, t)")
        bound.arguments["flow"] = loaded
        if images and isinstance(loaded, Flow):
            bound.arguments[what] = _images(bound.arguments[what], loaded.spec)
        return walk(*bound.args, **bound.kwargs)

    return call


def _images(given: Any, spec: ModelSpec) -> Tensor:
    """A tensor as it is, in its own size; other images at the flow's."""
    if isinstance(given, list | tuple) and not all(isinstance(one, Tensor) for one in given):
        return torch.cat([_images(one, spec) for one in given])  # each may have a size of its own
    size = (spec.height, spec.width)
    found = pictures_of(given, "images", size, unclamped=True)
    return found if isinstance(given, Tensor) else fitted_pictures(found, size)


encode, decode = _by_address(walking.encode, images=True), _by_address(walking.decode, images=False)
