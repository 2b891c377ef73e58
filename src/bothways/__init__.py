"""Draw pictures from discriminative vision models; use generative flows as feature extractors and classifiers.

Models and data
    ModelSpec       input size, normalisation and classes of a model
    load_model      an address or a live module -> a model
    load_flow       an address or a live module -> a flow: a velocity field from noise to pictures
    layers          the layers of a model: name, kind, shape, parameters
    load_images     the name of a data set, a parquet file or a folder -> labelled pictures
    open_images     the same, decoded as they are needed where they are many

Synthesis
    generate        class-conditional or unconditional pictures from an unmodified discriminative model -> Result
    edit, inpaint, style, invert, accentuate        tasks on a photo; masked-out pixels stay bit for bit
    Result          pictures, labels, frames, measures; ``save(folder)``
    recipes         the names and descriptions of the recipes
    dsf_score       the discriminative score function (DSF) of pictures, by one of three engines -> score, norm
    dsf             the DSF as a gradient field for the ascent
    statistics      image-prior statistics of a model on real pictures, for drawing without a class -> Statistics
    spectrum        amplitudes and colours of pictures, for the canvases of a drawing -> Spectrum
    explain         shortcut audit of a classifier: what its portraits of a class share and real pictures lack
    demo            runs the bundled models: two recipes, a walk and an evaluation on one page
    reproduce       runs a table or figure of the papers again, with a verdict on each of its claims
    scorecard       tests which label-free quantities of a model separate real from corrupted pictures -> Scorecard

Classification
    train           trains a classifier of the catalogue on labelled pictures -> Trained
    evaluate        accuracy and calibration of a classifier on clean and corrupted pictures
    predict         the most probable classes of pictures -> a list of Prediction
    curves          accuracy of a fine-tuned flow classifier over the number of steps and the depth of its walk

Representation
    finetune        trains a classifier head on walked pictures or a flow's activations, with the flow -> Finetuned
    export          writes a classifier or feature extractor that loads without bothways -> ExportedFiles
    sweep           runs a task for every combination of the values of some settings, with means over seeds
    load_classifier a run of finetune -> a torch module of pictures -> logits, and a model
    plan            what a pretraining or fine-tuning will cost on a device: operations, memory, hours, disk -> Plan
    pretrain        trains a flow between noise and pictures by flow matching -> Pretrained
    features        extracts features of pictures with a flow, and fits probes on them -> FeatureTables
    latents         encodes pictures once by the autoencoder of a flow, as data of others -> EncodedLatents
    encode, decode  integrate the flow from pictures to noise and back; exact gradients in constant memory
    sample          samples pictures from a flow -> Result
    likelihood      bits per dimension of pictures under a flow -> Likelihood
    walk            one picture to noise and back, with predicted classes and nearest pictures on the way -> Walked
    diagnose        straightness, round-trip error, gain and a bound on information of a flow -> Diagnosis

Errors
    UserError       an invalid argument or input, in one line
    RunError        a failure during a run

Names are imported on first use, so that ``import bothways`` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bothways.version import __version__

if TYPE_CHECKING:
    from bothways.data.rows.stored import open_images
    from bothways.data.sources import load_images
    from bothways.models.encoding import decode, encode
    from bothways.models.layers_of import layers
    from bothways.models.loader import load_classifier, load_flow, load_model
    from bothways.numerics.spectra import Spectrum
    from bothways.synthesis.dsf.score import dsf, dsf_score
    from bothways.tasks.diagnose.result import Diagnosis
    from bothways.tasks.export.result import ExportedFiles
    from bothways.tasks.features.result import FeatureTables
    from bothways.tasks.finetune.result import Finetuned
    from bothways.tasks.latents.result import EncodedLatents
    from bothways.tasks.likelihood.result import Likelihood
    from bothways.tasks.pictures import Result
    from bothways.tasks.plan.result import Plan
    from bothways.tasks.predict.result import Prediction
    from bothways.tasks.pretrain.result import Pretrained
    from bothways.tasks.recipes import recipes
    from bothways.tasks.scorecard.result import Scorecard
    from bothways.tasks.statistics.result import Statistics
    from bothways.tasks.sweep.run import sweep
    from bothways.tasks.train.result import Trained
    from bothways.tasks.walk.result import Walked
    from bothways.types import Frame, ModelSpec, RunError, UserError

_SHELF = {
    "layers": "models.layers_of",
    "load_flow": "models.loader",
    "load_images": "data.sources",
    "open_images": "data.rows.stored",
    "load_model": "models.loader",
    "load_classifier": "models.loader",
    "decode": "models.encoding",
    "encode": "models.encoding",
    "Diagnosis": "tasks.diagnose.result",
    "EncodedLatents": "tasks.latents.result",
    "ExportedFiles": "tasks.export.result",
    "FeatureTables": "tasks.features.result",
    "Finetuned": "tasks.finetune.result",
    "Likelihood": "tasks.likelihood.result",
    "Plan": "tasks.plan.result",
    "Prediction": "tasks.predict.result",
    "Pretrained": "tasks.pretrain.result",
    "Result": "tasks.pictures",
    "Scorecard": "tasks.scorecard.result",
    "recipes": "tasks.recipes",
    "Spectrum": "numerics.spectra",
    "Statistics": "tasks.statistics.result",
    "Trained": "tasks.train.result",
    "Walked": "tasks.walk.result",
    "dsf": "synthesis.dsf.score",
    "sweep": "tasks.sweep.run",
    "dsf_score": "synthesis.dsf.score",
    "Frame": "types",
    "ModelSpec": "types",
    "RunError": "types",
    "UserError": "types",
}

__all__ = [
    "Diagnosis",
    "EncodedLatents",
    "ExportedFiles",
    "FeatureTables",
    "Finetuned",
    "Frame",
    "Likelihood",
    "ModelSpec",
    "Plan",
    "Prediction",
    "Pretrained",
    "Result",
    "RunError",
    "Scorecard",
    "Spectrum",
    "Statistics",
    "Trained",
    "UserError",
    "Walked",
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
    "export",
    "features",
    "finetune",
    "generate",
    "inpaint",
    "invert",
    "latents",
    "layers",
    "likelihood",
    "load_classifier",
    "load_flow",
    "load_images",
    "load_model",
    "objectives",
    "open_images",
    "plan",
    "predict",
    "pretrain",
    "recipes",
    "reproduce",
    "sample",
    "scorecard",
    "spectrum",
    "statistics",
    "style",
    "sweep",
    "train",
    "walk",
]


_MODULES = {"objectives": "bothways.synthesis.objectives", "registry": "bothways.registry"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in import_module("bothways.registry").entries("task"):  # made from the task's Config
        globals()[name] = import_module("bothways.tasks.shelf").function_of(name)
        return globals()[name]
    if name not in _SHELF:
        raise AttributeError(f"bothways has no {name!r}; it has {', '.join(_SHELF)}")
    value = getattr(import_module(f"bothways.{_SHELF[name]}"), name)
    globals()[name] = value  # __getattr__ is not called for it again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
