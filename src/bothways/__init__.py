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
"""

from bothways.data.sources import load_images
from bothways.models.catalogue import load_model
from bothways.recipe import Result, generate
from bothways.recipe.settings import recipes
from bothways.types import Frame, ModelSpec, RunError, UserError
from bothways.version import __version__

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
