"""Read a vision model both ways: a classifier draws what it knows, a generative flow classifies.

Models and data
    ModelSpec       the facts about a model that its weights do not hold
    load_model      an address or a live module -> a model that can be read
    load_images     a parquet file or a folder -> labelled pictures

Synthesis
    generate        pictures of classes, or of none, from an unmodified discriminative model -> Result
    edit, inpaint, restyle, invert, accentuate        what is done to a photo; a mask keeps pixels bit for bit
    Result          pictures, labels, frames, measures; ``save(folder)``
    recipes         the names of the recipes and what they are
    dsf_score       the discriminative score function of pictures, by one of three engines -> score, norm
    dsf             the same as a field of ascent
    statistics      what a model measures of real pictures, for drawing without a class
    spectrum        the mean amplitude spectrum of pictures, for the recipe maco -> Spectrum
    scorecard       which label-free quantities of a model mean anything -> Scorecard

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
    from bothways.numerics.spectra import Spectrum
    from bothways.recipe.generate import generate
    from bothways.recipe.result import Result
    from bothways.recipe.scorecard import Scorecard, scorecard
    from bothways.recipe.settings import recipes
    from bothways.recipe.spectrum import spectrum
    from bothways.recipe.statistics import Statistics, statistics
    from bothways.recipe.tasks import accentuate, edit, inpaint, invert, restyle
    from bothways.synthesis.dsf import dsf, dsf_score
    from bothways.types import Frame, ModelSpec, RunError, UserError

_SHELF = {
    "load_images": "data.sources",
    "load_model": "models.catalogue",
    "generate": "recipe.generate",
    "Result": "recipe.result",
    "Scorecard": "recipe.scorecard",
    "scorecard": "recipe.scorecard",
    "recipes": "recipe.settings",
    "Spectrum": "numerics.spectra",
    "spectrum": "recipe.spectrum",
    "Statistics": "recipe.statistics",
    "statistics": "recipe.statistics",
    "accentuate": "recipe.tasks",
    "edit": "recipe.tasks",
    "inpaint": "recipe.tasks",
    "invert": "recipe.tasks",
    "restyle": "recipe.tasks",
    "dsf": "synthesis.dsf",
    "dsf_score": "synthesis.dsf",
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
    "Scorecard",
    "Spectrum",
    "Statistics",
    "UserError",
    "__version__",
    "accentuate",
    "dsf",
    "dsf_score",
    "edit",
    "generate",
    "inpaint",
    "invert",
    "load_images",
    "load_model",
    "recipes",
    "restyle",
    "scorecard",
    "spectrum",
    "statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _SHELF:
        raise AttributeError(f"bothways has no {name!r}; it has {', '.join(_SHELF)}")
    value = getattr(import_module(f"bothways.{_SHELF[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value
