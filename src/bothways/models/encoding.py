"""``encode`` and ``decode`` for flows given by a run, an address or an object, and images in any form."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import Tensor

from bothways.data.given import fitted_pictures, pictures_of
from bothways.models.loader import load_flow
from bothways.representation import encode as walking
from bothways.types import Flow, ModelSpec

Options = ParamSpec("Options")
Result = TypeVar("Result")


def _by_address(
    walk: Callable[Concatenate[Any, Any, Options], Result], *, images: bool
) -> Callable[Concatenate[Any, Any, Options], Result]:
    """Let an address stand for the flow of a walk; such a flow is not trained, so that no graph is kept for it.

    images: whether what is walked are images, which may be paths, or pictures of PIL or numpy, fitted to the flow.
    """

    @wraps(walk)
    def call(flow: Any, start: Any, *given: Options.args, **options: Options.kwargs) -> Result:
        loaded = load_flow(flow).requires_grad_(False) if isinstance(flow, str | Path) else flow
        if images and isinstance(loaded, Flow):
            start = _images(start, loaded.spec)
        return walk(loaded, start, *given, **options)

    return call


def _images(given: Any, spec: ModelSpec) -> Tensor:
    """A tensor as it is, in its own size; other images at the flow's."""
    size = (spec.height, spec.width)
    found = pictures_of(given, "images", size, unclamped=True)
    return found if isinstance(given, Tensor) else fitted_pictures(found, size)


encode, decode = _by_address(walking.encode, images=True), _by_address(walking.decode, images=False)
