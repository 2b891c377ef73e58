"""Types and protocols shared by the whole package, and its image and time conventions.

Inside the package every image is RGB, NCHW, float, in [0, 1]. What belongs to one model stands in its
:class:`ModelSpec` and is applied in the adapter alone. t = 0 is noise (or the start of an ascent), t = 1 an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from operator import index
from pathlib import Path as FilePath
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from bothways.brief import OneLine, shown, wrong_kind

if TYPE_CHECKING:  # help pages and error messages must not wait for the import of torch
    from torch import Tensor


class UserError(OneLine, ValueError):
    """Invalid input: a one-line message with the cause, the place and what to type. Exit code 2."""

    exit_code = 2


class RunError(OneLine, RuntimeError):
    """A failure during a run: a one-line message that names what was kept. Exit code 1."""

    exit_code = 1


IMAGENET = "imagenet"  # in place of the names of classes: those of ImageNet-1k
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # the filters of Pillow
OPTIONAL = (str, NoneType)
KINDS_OF_FACTS = {"time_scale": (int, float, NoneType), "crop": (int, float), "levels": int, "feature_layer": OPTIONAL}
KINDS_OF_FACTS |= dict.fromkeys(("channel_order", "interpolation"), str) | {"time_first": bool, "squash": bool}


@dataclass(frozen=True)
class ModelSpec:
    """Preprocessing and output facts of a model that its weights do not hold.

    A model sees ``(image[channel_order] - mean) / std`` for an image in [0, 1], so weights trained on 0..255
    with a mean of 104 and no division state ``mean=104/255, std=1/255``.

    size: pixels, an int or (height, width).
    mean, std: one number a channel, in the model's own order and in units of the [0, 1] image; one stands for all.
    classes: how many, or their names in order, or "imagenet" for the 1,000 names of ImageNet-1k; 0 for an encoder. Two
        for a network with one output z, whose logits are (-z/2, z/2).
    channel_order: "RGB" or "BGR"; "grey" for a network that sees one channel, the mean of the three.
    feature_layer: the module whose output, averaged over space, is the picture's feature vector (penultimate); its
        name followed by ``:input`` for what enters it, such as a head's, or by ``:first`` for its first token. If None,
        it is what enters a classifier's linear head; drawing without a class takes what an encoder gives, too.
    time_scale: what t is multiplied by before a velocity network sees it; None for a model without time.
    time_first: whether a velocity network is called as (t, x) instead of (x, t). One that gives a velocity in the other
        order alone is called in that.
    path: of a flow, the name of the path that it was trained on (representation/paths).
    levels: how many values a channel of the data can take, for the likelihood of what was rounded.
    crop, interpolation, squash: how pictures of other sizes are read for the model: resized by that filter to
        size / crop, the shorter side, or both where ``squash``, and the centre cut out.
    """

    size: int | tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]
    classes: int | Sequence[str]
    channel_order: Literal["RGB", "BGR", "grey"] = "RGB"
    feature_layer: str | None = None
    source: str = ""
    licence: str = ""
    time_scale: float | None = None
    path: str | None = None
    levels: int = 256
    time_first: bool = False
    crop: float = 1.0
    interpolation: str = "bicubic"
    squash: bool = False

    def __post_init__(self) -> None:
        if wrong := wrong_kind({name: (getattr(self, name), kinds) for name, kinds in KINDS_OF_FACTS.items()}):
            raise UserError(f"ModelSpec: {wrong}")
        for name in ("mean", "std"):
            values = _three(name, getattr(self, name))
            object.__setattr__(self, name, values * 3 if self.channel_order == "grey" and len(values) == 1 else values)
        object.__setattr__(self, "size", _sized(self.size))
        object.__setattr__(self, "classes", _classes(self.classes))
        if len(self.mean) != 3 or len(self.std) != 3:
            raise UserError(
                f"ModelSpec: mean has {len(self.mean)} numbers and std has {len(self.std)}; images have 3 channels, "
                "so give three of each, for example mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)"
            )
        if not isfinite(self.time_scale or 1.0):
            raise UserError(f"ModelSpec: time_scale={self.time_scale}; type a finite number")
        if min(self.std) <= 0:
            raise UserError(f"ModelSpec: std={self.std} has a number that is not positive; an image is divided by std")
        if max(map(abs, self.mean)) > 1 or max(self.std) > 2:
            facts = f"ModelSpec: mean={self.mean}, std={self.std}"
            warnings.warn(f"{facts} are beyond the [0, 1] of a picture; divide numbers of 0..255 by 255", stacklevel=3)
        if self.channel_order not in ("RGB", "BGR", "grey"):
            raise UserError(f'ModelSpec: channel_order={self.channel_order!r}; type "RGB", "BGR" or "grey"')
        if self.interpolation not in INTERPOLATIONS or not 0 < self.crop <= 1:
            raise UserError(
                f"ModelSpec: crop={self.crop}, interpolation={self.interpolation!r}; type a share above 0 and up to 1, "
                f"and one of {', '.join(INTERPOLATIONS)}"
            )
        if min(self.height, self.width) < 1 or max(self.height, self.width) > 2**14:
            raise UserError(f"ModelSpec: size={self.size}; type an int such as 224, or (height, width), to 16384")

    @property
    def height(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def count(self) -> int:
        """Number of classes, 0 for an encoder."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    def class_name(self, index: int) -> str:
        """The name of class ``index``, or its number where the spec holds only a count."""
        return str(index) if isinstance(self.classes, int) else self.classes[index]


@cache
def imagenet_names() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet-1k, in the order of their WordNet numbers."""
    return tuple(FilePath(__file__).with_name("imagenet.txt").read_text(encoding="utf-8").splitlines())


def _three(name: str, given: Any) -> tuple[float, ...]:
    """One number a channel; a single number is meant for all three."""
    try:
        many = hasattr(given, "__len__") and getattr(given, "ndim", 1) > 0
        found = tuple(float(value) for value in given) if many else (float(given),) * 3
        if all(map(isfinite, found)):
            return found
        raise ValueError("a number that is not finite")
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"ModelSpec: {name}={shown(given)}; type three finite numbers, such as .5, .5, .5") from error


def _sized(given: Any) -> Any:
    """An int or (height, width), of whatever counts as whole numbers."""
    try:
        found = tuple(map(index, given)) if isinstance(given, list | tuple) else index(given)
    except TypeError:
        found = ()
    if isinstance(found, tuple) and len(found) != 2:
        raise UserError(f"ModelSpec: size={shown(given)}; type an int such as 224, or (height, width)")
    return found


def _classes(given: Any) -> int | tuple[str, ...]:
    """How many, or the names."""
    if given == IMAGENET:
        return imagenet_names()
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(given)
    try:
        found = index(given)
    except TypeError:
        found = -1
    if found < 0:
        raise UserError(f"ModelSpec: classes={shown(given)}; type how many, 0 for an encoder, or a list of their names")
    return found


@runtime_checkable
class VisionModel(Protocol):
    """The interface of a model in synthesis, implemented by ``models/adapter.py``.

    ``outputs``: (B,3,H,W) in [0,1] -> (B,K) logits, an embedding, or a detector's outputs flattened.
    ``features``: one forward pass -> {layer: activation}, and one or more before the first of a layer whose place of
    the channels has to be looked up. A layer is the dotted name of a module (its output),
    that name followed by ``:input`` (its first input) or ``:first`` (its first token), ``":output"`` (what the module
    gives) or ``"outputs"`` (the same, flattened). Maps are (B,C,H,W), tokens (B,N,C).
    """

    spec: ModelSpec
    name: str

    def outputs(self, image: Tensor) -> Tensor: ...

    def features(self, image: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]: ...


@runtime_checkable
class TrainedModel(VisionModel, Protocol):
    """A vision model with a functional call: a forward pass with replaced parameters.

    ``parameters``: {name: value}, detached. ``features_with``: ``features`` with some of them replaced for one call,
    differentiable in the replaced ones; the model's own parameters are unchanged afterwards.
    """

    def parameters(self) -> Mapping[str, Tensor]: ...

    def features_with(
        self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]
    ) -> Mapping[str, Tensor]: ...


@runtime_checkable
class TextModel(VisionModel, Protocol):
    """A vision-language model with a text encoder, such as CLIP.

    ``text``: P prompts -> (P,D), rows of unit norm, no gradient, in the space of ``outputs``, whose rows may have any
    norm: the two are compared by their cosine. Raises UserError for a model without a text encoder.
    """

    def text(self, prompts: Sequence[str]) -> Tensor: ...


VectorField = Callable[["Tensor", "Tensor"], "Tensor"]
"""(x, t) -> dx, x and dx (B,C,H,W), t (B,): a velocity, a score, an ascent direction."""


class PathWeights(NamedTuple):
    """Coefficients of x_t = a image + s noise and of its velocity a' image + s' noise, each shaped like t."""

    a: Tensor
    s: Tensor
    da: Tensor
    ds: Tensor


Path = Callable[["Tensor"], PathWeights]
"""t (B,), 0 at noise and 1 at an image -> the four coefficients."""

Coupling = Callable[["Tensor", "Tensor"], "Tensor"]
"""images, noise, both (B,...) -> the permutation p (B,) that pairs image i with noise p(i)."""


@runtime_checkable
class Flow(Protocol):
    """A velocity field from noise to images with its preprocessing, implemented by ``models/velocity.py``.

    It is called as a ``VectorField``: (x, t) -> dx/dt, x (B,C,H,W) in its own units, of noise N(0, 1) at t = 0.
    ``code``: (B,3,H,W) in [0,1] -> (B,C,H,W) in those units. ``picture``: the inverse, not clamped, differentiable.
    """

    spec: ModelSpec
    name: str

    def __call__(self, x: Tensor, t: Tensor) -> Tensor: ...

    def code(self, image: Tensor) -> Tensor: ...

    def picture(self, x: Tensor) -> Tensor: ...


Objective = Callable[["Tensor"], "Tensor"]
"""image (B,3,H,W) -> the value to maximise (B,)."""


class Parameterization(Protocol):
    """An image parameterization: a linear or smooth map from parameters to a canvas, then a squash into [0, 1]."""

    def parameters(self) -> list[Tensor]:
        """The leaf tensors that the optimiser updates; the first dimension is the batch."""

    def canvas(self, change: Sequence[Tensor]) -> Tensor:
        """(B,3,H,W): the change of the canvas before the squash for a change of the parameters; linear in the latter.

        For a map that is not linear (MaCo) it is the differential at the present parameters, so a long step may move
        the canvas less.
        """

    def image(self) -> Tensor:
        """(B,3,H,W) in [0,1], differentiable in the parameters."""


@dataclass(frozen=True)
class Frame:
    """The state after one step of a loop: step, t, the images (or None) and the batch mean of each statistic.

    batch: index of the batch, in a run of several batches.
    """

    step: int
    t: float
    image: Tensor | None = None
    stats: dict[str, float] = field(default_factory=dict)
    batch: int = 0
