"""Read a vision model both ways: a classifier draws what it knows, a generative flow classifies.

Models and data
    ModelSpec       the facts about a model that its weights do not hold
    load_model      an address or a live module -> a model that can be read
    load_images     a parquet file or a folder -> labelled pictures

Synthesis
    generate        pictures of classes from an unmodified classifier -> Result
    Result          pictures, labels, frames, measures; ``save(folder)``
    recipes         the names of the recipes and what they are

Errors
    UserError       a mistake in what was asked, in one line
    RunError        something that failed while running

A name is imported when it is first used, so that ``import bothways`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bothways.version import __version__

if TYPE_CHECKING:
    from bothways.data.sources import load_images
    from bothways.models.catalogue import load_model
    from bothways.recipe.generate import generate
    from bothways.recipe.result import Result
    from bothways.recipe.settings import recipes
    from bothways.types import Frame, ModelSpec, RunError, UserError

_SHELF = {
    "load_images": "data.sources",
    "load_model": "models.catalogue",
    "generate": "recipe.generate",
    "Result": "recipe.result",
    "recipes": "recipe.settings",
    "Frame": "types",
    "ModelSpec": "types",
    "RunError": "types",
    "UserError": "types",
}

__all__ = [
    "Frame",
    "ModelSpec",
    "Result",
    "RunError",
    "UserError",
    "__version__",
    "generate",
    "load_images",
    "load_model",
    "recipes",
]


def __getattr__(name: str) -> Any:
    if name not in _SHELF:
        raise AttributeError(f"bothways has no {name!r}; it has {', '.join(_SHELF)}")
    value = getattr(import_module(f"bothways.{_SHELF[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value
