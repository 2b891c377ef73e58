"""The settings of a drawing: what is drawn, by which models, and the parts that say how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from bothways.configs import Config, Live, Several, Shortcut, merged, setting
from bothways.registry import register
from bothways.synthesis.config import AscentConfig, CanvasConfig, TermConfig, ViewsConfig
from bothways.types import UserError

OF_THE_REQUEST = ("class", "text", "channel")  # terms that every recipe has: they are idle where nothing asks for them


class SamplingConfig(Config):
    """How points are drawn in function space, for terms that are pulled to one."""

    temperature: float = setting(1.0, "how far samples lie from the mean", ge=0)
    shrinkage: float = setting(0.0, "how far the correlations of samples are shrunk to none", ge=0, le=1)


class ModelsConfig(Config):
    """Where and how the models compute."""

    dtype: str = setting("float32", "precision of the models: float32, bf16, float16")
    device: str = setting("cpu", "cpu, cuda, mps")


class JudgingConfig(Config):
    """Who judges the pictures."""

    judges: Several | None = setting(
        None,
        "models that judge the pictures, or functions of pictures; none for the bundled ones with the same classes",
        flags=("--judge",),
    )
    verdicts: bool = setting(True, "measure the pictures once they are drawn")


def _four(given: Any) -> Any:
    if given is not None and len(given) != 4:
        raise UserError(f"--box {' '.join(map(str, given))}: type LEFT TOP RIGHT BOTTOM in pixels")
    return given


Box = Annotated[tuple[int, int, int, int], BeforeValidator(_four)]


class DrawingConfig(Config):
    """What every task that draws is told."""

    recipe_task: ClassVar[str] = "generate"
    listed_kinds: ClassVar[Mapping[str, str]] = {
        "objective": "Objectives (--objective NAME:WEIGHT, --set terms.NAME.weight=2)",
        "view": "Views (--set views.NAME.SETTING=VALUE)",
        "canvas": "Canvases (--canvas NAME, --set canvas.SETTING=VALUE)",
    }
    shortcuts: ClassVar[Mapping[str, Shortcut]] = {
        "jitter": Shortcut("views.roll.reach", float, "Reach of a random roll (share or pixels)"),
        "shift": Shortcut("views.shift.reach", float, "Reach of a random shift (share or pixels)"),
        "noise": Shortcut("views.noise.level", float, "Noise in each copy"),
        "statistics": Shortcut("terms.statistics.form", str, "Channel statistics as a prior: spread, batch, sampled"),
    }

    model: Live = setting(
        None, "The model's address (see bothways models).", argument=True, unless=("score", "condition")
    )
    classes: Several | None = setting(None, "names or numbers of classes", flags=("--class",), common=True)
    n: int = setting(4, "pictures of each class", ge=1, flags=("--n", "-n"), common=True)
    recipe: str = setting("icons", "a name (bothways recipes) or .toml file", common=True)
    prompts: Several | None = setting(None, "words, each with :WEIGHT if it is not 1", flags=("--prompt",), common=True)
    layer: str | None = setting(None, "a layer of the model to excite", common=True)
    channels: Several | None = setting(None, "channels of --layer", flags=("--channel",), common=True)
    photo: Live = setting(None, "the photo: an image file, a folder or parquet of them, or a tensor", live=True)
    mask: Live = setting(None, "an image of the photo's size, white where it may change", live=True)
    box: Box | None = setting(None, "pixels in place of a mask", live=True)
    style: Live = setting(None, "the picture whose style is taken", live=True)
    seed: int = setting(0, "of the run and its pictures", ge=0, common=True)
    data: Live = setting(None, "real pictures, or a file of bothways statistics", common=True)
    score: Several | None = setting(None, "models that say what is real; none for MODEL")
    condition: Several | None = setting(None, "models that say which class; none for MODEL")
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    objective: Live = setting(None, "objectives in place of the recipe's, as in bothways.objectives", live=True)
    objectives: Several | None = setting(
        None, "NAME:WEIGHT or PATH.py:NAME:WEIGHT, added to the recipe's", flags=("--objective",)
    )
    only: Several | None = setting(None, "draw only these picture numbers of the run")
    batch: int | None = setting(None, "pictures at a time; none for what fits", ge=1)
    group: int = setting(10, "pictures that share batch statistics, or one gradient norm", ge=1)

    canvas: CanvasConfig = CanvasConfig()
    views: ViewsConfig = ViewsConfig()
    ascent: AscentConfig = AscentConfig()
    terms: dict[str, TermConfig] = setting({}, "the terms of the objective, by name", live=True)
    sampling: SamplingConfig = SamplingConfig()
    models: ModelsConfig = ModelsConfig()
    judging: JudgingConfig = JudgingConfig()

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """The recipe's tables, the terms of the request first, then what was given; objectives join the terms."""
        added = changes.get("objectives") or []
        terms = dict(term_of(text) for text in ([added] if isinstance(added, str) else added))
        whole = merged(merged({"terms": {name: {} for name in OF_THE_REQUEST}}, recipe), changes)
        own_views = whole.get("views")
        if isinstance(own_views, Sequence) and not isinstance(own_views, str):  # live views in place of the recipe's
            copies = recipe.get("views", {}).get("copies", 1)
            whole["views"] = {"copies": copies, **{f"view {k}": {"kind": view} for k, view in enumerate(own_views)}}
        canvas = changes.get("canvas", {})
        canvas = canvas if isinstance(canvas, Mapping) else {"kind": canvas}  # a live canvas
        of_recipe = recipe.get("canvas", {})
        if canvas.get("kind", of_recipe.get("kind")) != of_recipe.get(
            "kind"
        ):  # whose own settings are not the recipe's
            of_recipe = {key: value for key, value in of_recipe.items() if key in CanvasConfig.model_fields}
        whole["canvas"] = merged(of_recipe, canvas)
        return merged(whole, {"terms": terms})


def term_of(text: str) -> tuple[str, dict[str, Any]]:
    """ "variation:0.5" or "my.py:symmetry:0.5" -> the name of a term and its table. Raises UserError."""
    place, colon, last = text.rpartition(":")
    try:
        weight, kind = float(last), place
    except ValueError:
        weight, kind = 1.0, text
    if not kind or (colon and not place):
        raise UserError(f"--objective {text!r}: type NAME:WEIGHT, such as variation:0.5 or my.py:symmetry:0.5")
    name = kind.rpartition(":")[2]
    return name, {"kind": kind, "weight": weight}


@register("task", "generate", help="Draw what a model knows: of its classes, or of pictures as such.")
class GenerateConfig(DrawingConfig):
    """Draw n pictures of each class, of the prompts, of a layer's channels, or n pictures of nothing in particular.

    MODEL is bundled:NAME, timm:NAME, hf:REPO_OR_FOLDER or another kind (see bothways models), the card that bothways
    train wrote, or PATH.py:FUNCTION: your own file, whose function returns the module and its bothways.ModelSpec.

    Models learn from what the web shows: words and pictures may draw what not everyone wants to see.

    Examples
    bothways generate bundled:cifar10-resnet --class frog ship --n 8
    bothways generate bundled:cifar10-resnet --class 3 --recipe das --steps 200 --seed 7
    bothways generate bundled:cifar10-resnet --unconditional --n 50
    bothways generate bundled:cifar10-resnet --unconditional --recipe dsf-paper --set ascent.clip_by=norm
    bothways generate --score bundled:cifar10-resnet --condition bundled:cifar10-attention --class deer
    bothways generate bundled:cifar10-resnet --class frog --objective my.py:symmetry:0.5
    bothways generate examples/squeezenet.py:build --class 107 1 130 --recipe das --n 1
    bothways generate timm:convnext_tiny.fb_in1k --class goldfish --recipe das
    bothways generate clip:ViT-B/32 --prompt "a jellyfish" --prompt "multiple exposure:-0.3"
    bothways generate bundled:cifar10-resnet --layer stages.2 --channel 3 17
    bothways generate my.py:build --weights my.safetensors --class 0 --data photos/ --judge other.py:build
    """

    unconditional: bool | None = setting(None, "draw pictures of no class", flags=("--unconditional",), common=True)

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        """das for prompts, channel for a layer, icons for classes or objectives of one's own, sampled for none."""
        if given.get("prompts"):
            return "das"
        if given.get("layer") is not None:
            return "channel"
        of_own = given.get("objective") is not None
        return "icons" if given.get("classes") is not None or of_own else "sampled"

    @classmethod
    def check_typed(cls, given: Mapping[str, Any]) -> None:
        target = any(given.get(name) for name in ("classes", "prompts", "layer", "objectives"))
        if target == bool(given.get("unconditional")):
            raise UserError(
                "type --class NAME (one or several), --prompt TEXT or --layer NAME for pictures of these, "
                "or --unconditional for any; not both"
            )
