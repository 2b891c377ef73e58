"""The one room that knows every other: options or TOML -> parts -> loop -> run folder."""

from bothways.recipe.generate import generate
from bothways.recipe.result import Result

__all__ = ["Result", "generate"]
