"""Every choice of a drawing in one frozen, validated record; recipes are TOML files that fill it in."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from bothways.tasks.recipes import read_recipe, recipes
from bothways.types import UserError

Settings = TypeVar("Settings", bound=BaseModel)

DEFAULT_RECIPE = "icons"
DEFAULT_OF_WORDS, DEFAULT_OF_LAYERS = "das", "channel"
TASKS = ("accentuate", "edit", "inpaint", "invert", "style")  # commands of their own, each with its recipe
DEFAULT_UNCONDITIONAL = "sampled"  # where nothing is asked for


def default_recipe(of_classes: bool, of_words: bool = False, of_layers: bool = False) -> str:
    """The recipe where none is named: for prompts, for a layer, for classes, for none of these."""
    if of_words or of_layers:
        return DEFAULT_OF_WORDS if of_words else DEFAULT_OF_LAYERS
    return DEFAULT_RECIPE if of_classes else DEFAULT_UNCONDITIONAL


class DrawSettings(BaseModel):
    """How pictures are drawn. Lengths below 1 marked "share" are shares of the picture's size, others pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str = Field(DEFAULT_RECIPE, description="the recipe these settings started from")
    n: int = Field(4, ge=1, description="pictures of each class")
    steps: int = Field(50, ge=0, description="ascent steps")
    size: int | None = Field(None, ge=1, description="pixels of a side; none for the model's own size")
    seed: int = Field(0, ge=0, description="of the run; a picture's own seed follows from it and its number")
    batch: int | None = Field(None, ge=1, description="pictures at a time; none for what fits")
    group: int = Field(10, ge=1, description="pictures that share batch statistics, or one gradient norm")
    dtype: Literal["float32", "bf16", "float16"] = Field("float32", description="precision of the model")
    device: str = Field("cpu", description="cpu, cuda, mps")

    parameterization: Literal["stack", "fourier", "pixels", "maco"] = Field(
        "stack", description="how the picture is held"
    )
    spectrum: str | None = Field(
        None, description="magnitudes for maco: a file of bothways spectrum; none for the bundled one"
    )
    engine: Literal["operator", "explicit"] = Field(
        "operator", description="the stack as an operator or level by level"
    )
    levels: Literal["geometric", "octaves", "every-fourth", "all"] | list[int] = Field(
        "geometric", description="resolutions of the stack"
    )
    level_power: float | None = Field(
        None, description="weight of a level (size/r)^p; none for the spacing of the levels"
    )
    squash: Literal["tanh", "clamp"] = Field("tanh", description="how the canvas is kept in [0, 1]")
    start: Literal["grey", "noise", "low-noise", "photo"] = Field("grey", description="what the picture starts from")
    start_noise: float = Field(0.0, ge=0, description="standard deviation of low-resolution noise in the start")
    alpha: bool = Field(False, description="keep the sum of the gradient's magnitude as transparency")
    start_photo: str | None = Field(None, description="pictures to start from, with start=photo: a parquet or a folder")

    fill: Literal["photo", "harmonic", "tension", "mean", "noise"] = Field(
        "photo", description="what a mask holds at the start, with start=photo"
    )

    optimizer: Literal["sgd", "momentum", "adam"] = Field("sgd", description="how the picture moves")
    rms: float = Field(0.03, gt=0, description="RMS of a step on the canvas before the squash")
    rate: float | None = Field(None, gt=0, description="plain learning rate instead of an RMS")
    strength: float = Field(1.0, gt=0, description="of the change: a factor of every step's length")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="of the step's length")
    final: float = Field(0.0, ge=0, description="share of the step's length at the end")
    step_noise: float = Field(0.0, ge=0, description="noise after a step, in RMS of the step")
    fixed_noise: float = Field(
        0.0, ge=0, description="noise after a step, in RMS on the canvas, the same at every step"
    )
    clip: float | None = Field(None, gt=0, description="limit of the gradient")
    clip_by: Literal["value", "norm"] = Field(
        "value", description="whether each number or each picture's norm is clipped"
    )

    copies: int = Field(1, ge=1, description="augmented copies that the model sees at each step")
    border: float = Field(0.0, ge=0, description="margin of the canvas on each side (share or pixels)")
    jitter: float = Field(0.0, ge=0, description="reach of a random roll (share or pixels)")
    shift: float = Field(0.0, ge=0, description="reach of a random shift (share or pixels)")
    flip: bool = Field(False, description="mirror half of the copies")
    noise: float = Field(0.0, ge=0, description="noise in each copy")
    noise_kind: Literal["normal", "uniform"] = Field("normal", description="its distribution")

    objective: Literal["logit", "log-probability"] = Field("log-probability", description="what is wanted of the class")
    class_weight: float = Field(1.0, description="weight of the class")
    text_weight: float = Field(1.0, description="weight of the prompts")
    channel_weight: float = Field(1.0, description="weight of the channel of a layer")
    embedding_weight: float = Field(0.0, description="weight of the embedding of the style, or else of the photo")
    embedding_layer: str | None = Field(None, description="where it is taken; none for the model's features")
    content_weight: float = Field(0.0, description="weight of the photo's activations, place by place")
    content_layer: str | None = Field(None, description="where they are taken; none for the middle of the model")
    style_weight: float = Field(0.0, description="weight of the style's channel statistics")
    nearness_weight: float = Field(0.0, description="pull back to the photo, against terms of norm 1")
    statistics: Literal["none", "spread", "batch", "sampled"] = Field(
        "none", description="prior from channel statistics"
    )
    statistics_weight: float = Field(1.0, description="weight of that prior")
    prediction_weight: float = Field(0.0, description="weight of the statistics predicted from what is around a hole")
    certainty_weight: float = Field(0.0, description="weight of the model's certainty, whatever it sees")
    smooth: bool = Field(False, description="make every step smooth inside the mask")
    feature_weight: float = Field(0.0, description="weight of features sampled from those of real pictures")
    decision_weight: float = Field(0.0, description="weight of the class whose sampled logit is the largest")
    temperature: float = Field(1.0, ge=0, description="how far samples lie from the mean")
    shrinkage: float = Field(0.0, ge=0, le=1, description="how far the correlations of samples are shrunk to none")
    dsf_weight: float = Field(0.0, description="weight of the discriminative score function")
    dsf_surrogate: Literal["logits", "kl", "pseudo-label", "features"] = Field("logits", description="its loss")
    dsf_engine: Literal["double_backward", "jvp", "difference"] = Field("double_backward", description="its derivative")
    dsf_per: Literal["image", "batch"] = Field(
        "image", description="whether each picture or the batch has a gradient norm"
    )
    dsf_live: Literal["augmented", "original"] = Field("augmented", description="the branch whose weights are live")
    dsf_distance: Literal["norm", "log", "angle"] = Field("norm", description="its distance")
    dsf_augmentation: list[str] = Field(["flip"], description="its augmentations: flip, roll, shift, noise, crop")
    dsf_parameters: str | None = Field(None, description="a pattern of the parameters that count; none for all")
    variation_weight: float = Field(0.0, description="weight of low total variation")
    variation_power: float = Field(2.0, gt=0, description="exponent of the total variation")
    normalize: bool = Field(False, description="scale each term to unit norm per picture before weighting")

    @property
    def resembles(self) -> bool:
        """Whether the picture is to be like a photo or a style, which is asked of the condition models."""
        return any((self.embedding_weight, self.content_weight, self.style_weight))

    @property
    def coupled(self) -> bool:
        """Whether the pictures of a group depend on each other, so that a group is drawn whole."""
        return self.statistics == "batch" or (self.dsf_weight != 0 and self.dsf_per == "batch")

    def pixels(self, name: str, size: int) -> int:
        """A length that is a share of the size below 1, and pixels from 1 on."""
        value = getattr(self, name)
        return round(value * size) if value < 1 else round(value)


def draw_settings(recipe: str = DEFAULT_RECIPE, **changes: Any) -> DrawSettings:
    """A recipe with changes on top; a change of None leaves the recipe's own value."""
    return checked({**read_recipe(recipe), "recipe": recipe, **{k: v for k, v in changes.items() if v is not None}})


def known_or_error(name: str, model: type[BaseModel] = DrawSettings) -> None:
    if name not in model.model_fields:
        near = get_close_matches(name, model.model_fields, n=3, cutoff=0.4) or list(model.model_fields)
        raise UserError(f"no setting {name!r}; type one of {', '.join(near)}")


def checked(values: dict[str, Any]) -> DrawSettings:
    """The settings of a drawing. Raises UserError that names the option, its value and what is allowed."""
    return validated(DrawSettings, values)


def validated(model: type[Settings], values: dict[str, Any]) -> Settings:
    """A record of settings. Raises UserError in one line that names the first that cannot be."""
    for key in values:
        known_or_error(key, model)
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from error


@cache
def _drawing_recipes() -> dict[str, dict[str, Any]]:
    return {recipe: read_recipe(recipe) for recipe in recipes()}


def described(name: str, task: str | None = None) -> str:
    """What a setting is, and what it is when it is left out: the recipes' values, or those of one task's recipe."""
    field = DrawSettings.model_fields[name]
    chosen = {task} if task else _drawing_recipes().keys() - set(TASKS)
    among = {recipe: table for recipe, table in _drawing_recipes().items() if recipe in chosen}
    return worded(name, field, {recipe: table.get(name, field.default) for recipe, table in among.items()})


def worded(name: str, field: FieldInfo, values: dict[str, Any]) -> str:
    """The help of a setting. values: what it is in each recipe."""
    text = (field.description or name)[:1].upper() + (field.description or name)[1:]
    if len({str(value) for value in values.values()}) == 1:
        return f"{text}. [default: {next(iter(values.values()))}]"
    return f"{text}. [default: " + ", ".join(f"{recipe} {value}" for recipe, value in values.items()) + "]"


def spoken_changes(pairs: list[str]) -> dict[str, Any]:
    """["rms=0.02"] -> {"rms": "0.02"}; lists are written 1,2,4. Raises UserError for what is no setting."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair!r}: type NAME=VALUE, such as --set rms=0.02")
        if name == "recipe":
            raise UserError(f"--set {pair!r}: type --recipe {value}")
        known_or_error(name)
        many = name == "dsf_augmentation" or (name == "levels" and value[:1].isdigit())
        found[name] = value.split(",") if many else value
    return found
