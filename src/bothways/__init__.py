"""Read a vision model both ways: a classifier draws what it knows, a generative flow classifies.

Models and data
    ModelSpec       the facts about a model that its weights do not hold
    load_model      an address or a live module -> a model that can be read
    load_flow       an address or a live module -> a velocity between noise and pictures
    load_images     the name of a data set, a parquet file or a folder -> labelled pictures

Synthesis
    generate        pictures of classes, or of none, from an unmodified discriminative model -> Result
    edit, inpaint, style, invert, accentuate        what is done to a photo; a mask keeps pixels bit for bit
    Result          pictures, labels, frames, measures; ``save(folder)``
    recipes         the names of the recipes and what they are
    dsf_score       the discriminative score function of pictures, by one of three engines -> score, norm
    dsf             the same as a field of ascent
    statistics      what a model measures of real pictures, for drawing without a class
    spectrum        the mean amplitude spectrum of pictures, for the recipe maco -> Spectrum
    explain         an audit: what portraits of a class share and real pictures do not, and what else is in them
    demo            the tour of the bundled models: two recipes, a walk and an evaluation on one page
    scorecard       which label-free quantities of a model mean anything -> Scorecard

Classification
    train           a classifier of the catalogue, trained on labelled pictures -> Trained
    evaluate        how often a classifier is right, clean and corrupted, and whether its confidence can be believed
    predict         the most probable classes of pictures
    curves          what finetune wrote, asked in other steps and at other depths

Representation
    finetune        a flow made a classifier: a head on walked pictures or the flow's activations -> Finetuned
    load_classifier what finetune wrote -> a model that can be read like any other
    pretrain        a flow between noise and pictures, trained on pictures -> Pretrained
    features        what a flow makes of pictures, as a table, and what probes tell by it -> FeatureTables
    encode, decode  pictures walked to noise and back; exact gradients in flat memory
    sample          pictures of a flow -> Result
    likelihood      bits per dimension of pictures under a flow
    walk            one picture to noise and back, what it is called on the way, and its nearest -> Walked
    diagnose        how straight a flow is, what is lost there and back, how it stretches, what noise leaves

Errors
    UserError       a mistake in what was asked, in one line
    RunError        something that failed while running

A name is imported when it is first used, so that ``import bothways`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bothways.registry import entries
from bothways.version import __version__

if TYPE_CHECKING:
    from bothways.data.sources import load_images
    from bothways.models.encoding import decode, encode
    from bothways.models.loader import load_classifier, load_flow, load_model
    from bothways.numerics.spectra import Spectrum
    from bothways.synthesis.dsf.score import dsf, dsf_score
    from bothways.tasks.features.result import FeatureTables
    from bothways.tasks.finetune.result import Finetuned
    from bothways.tasks.pictures import Result
    from bothways.tasks.pretrain.result import Pretrained
    from bothways.tasks.recipes import recipes
    from bothways.tasks.scorecard.result import Scorecard
    from bothways.tasks.statistics.result import Statistics
    from bothways.types import Frame, ModelSpec, RunError, UserError

_SHELF = {
    "load_flow": "models.loader",
    "load_images": "data.sources",
    "load_model": "models.loader",
    "load_classifier": "models.loader",
    "decode": "models.encoding",
    "encode": "models.encoding",
    "FeatureTables": "tasks.features.result",
    "Finetuned": "tasks.finetune.result",
    "Pretrained": "tasks.pretrain.result",
    "Result": "tasks.pictures",
    "Scorecard": "tasks.scorecard.result",
    "recipes": "tasks.recipes",
    "Spectrum": "numerics.spectra",
    "Statistics": "tasks.statistics.result",
    "dsf": "synthesis.dsf.score",
    "dsf_score": "synthesis.dsf.score",
    "Frame": "types",
    "ModelSpec": "types",
    "RunError": "types",
    "UserError": "types",
}

__all__ = [
    "FeatureTables",
    "Finetuned",
    "Frame",
    "ModelSpec",
    "Pretrained",
    "Result",
    "RunError",
    "Scorecard",
    "Spectrum",
    "Statistics",
    "UserError",
    "__version__",
    "accentuate",
    "curves",
    "decode",
    "demo",
    "diagnose",
    "dsf",
    "dsf_score",
    "edit",
    "encode",
    "evaluate",
    "explain",
    "features",
    "finetune",
    "generate",
    "inpaint",
    "invert",
    "likelihood",
    "load_classifier",
    "load_flow",
    "load_images",
    "load_model",
    "objectives",
    "predict",
    "pretrain",
    "recipes",
    "sample",
    "scorecard",
    "spectrum",
    "statistics",
    "style",
    "train",
    "walk",
]


_MODULES = {"objectives": "bothways.synthesis.objectives", "registry": "bothways.registry"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in entries("task"):  # made from the task's Config
        globals()[name] = import_module("bothways.tasks.shelf").function_of(name)
        return globals()[name]
    if name not in _SHELF:
        raise AttributeError(f"bothways has no {name!r}; it has {', '.join(_SHELF)}")
    value = getattr(import_module(f"bothways.{_SHELF[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value
