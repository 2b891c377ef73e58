"""The settings of a drawing: targets, models, and the parts of the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from bothways.brief import shown
from bothways.configs import Config, Live, Several, Shortcut, merged, setting
from bothways.registry import name_of, names, register
from bothways.synthesis.config import AscentConfig, CanvasConfig, TermConfig, ViewsConfig
from bothways.types import UserError

PHOTOGRAPHS = 96  # pixels of a side from which a network is taken for one of photographs
OF_THE_REQUEST = ("class", "text", "channel")  # terms of every recipe, inactive without a target of their kind


class SamplingConfig(Config):
    """The sampling of target features in function space."""

    kind: Literal["density", "gaussian"] | None = setting(
        None,
        "density: between the features of two pictures that are near; gaussian: of all numbers jointly; default is "
        "density where features of pictures are stored",
    )
    neighbours: int = setting(5, "density: nearest pictures that one is mixed with", ge=1)
    share: float = setting(0.5, "density: smallest share of the picture itself in the mixture", ge=0, le=1)
    width: float = setting(0.2, "density: factor on the deviation of all pictures, which is added", ge=0)
    unsure: float = setting(
        0.0,
        "density: share of the pictures that are not drawn from: those of whose class the network's own linear head "
        "is least sure, where there is one",
        ge=0,
        lt=1,
    )
    temperature: float = setting(1.0, "factor on the deviation of samples from the mean", ge=0)
    shrinkage: float = setting(0.0, "shrinkage of the correlations of samples towards zero", ge=0, le=1)


class ModelsConfig(Config):
    """Device and precision of the models."""

    dtype: str = setting("float32", "precision of the models: float32, bf16, float16")
    device: str = setting("cpu", "compute device: cpu, cuda, mps")


class JudgingConfig(Config):
    """The judges of the finished pictures."""

    judges: Several | None = setting(
        None,
        "models or functions of pictures that judge the pictures; if unset, bundled models with the same classes",
        flags=("--judge",),
    )
    verdicts: bool = setting(True, "evaluate the finished pictures")


class ShareConfig(Config):
    """Files for showing the drawing to others, beside the report."""

    gif: bool = setting(False, "write drawing.gif, the drawing as it unfolds (the first 64 pictures)")
    mp4: bool = setting(False, 'write drawing.mp4, the same as a video; needs pip install "bothways[video]"')
    sheet: bool = setting(True, "write sheet.png, all pictures with their names and judges")

    @property
    def moving(self) -> tuple[str, ...]:
        """The kinds of files that show the drawing as it unfolds."""
        return tuple(kind for kind in ("gif", "mp4") if getattr(self, kind))


def _four(given: Any) -> Any:
    if given is not None and not (isinstance(given, list | tuple) and len(given) == 4):
        typed = " ".join(map(str, given)) if isinstance(given, list | tuple) else shown(given)
        raise UserError(f"--box {typed}: type LEFT TOP RIGHT BOTTOM in pixels")
    return given


Box = Annotated[tuple[int, int, int, int], BeforeValidator(_four)]


class DrawingConfig(Config):
    """The settings of every task that draws."""

    recipe_task: ClassVar[str] = "generate"
    of_heads: ClassVar[Mapping[str, str]] = {"icons": "photographs"}
    heads_from: ClassVar[int] = 0  # pixels of a side from which those of heads are taken
    of_photographs: ClassVar[Mapping[str, str]] = {"sampled": "sampled-photographs"}
    once: ClassVar[tuple[str, ...]] = ("only",)
    prolongs: ClassVar[tuple[str, ...]] = ("n",)
    listed_kinds: ClassVar[Mapping[str, str]] = {
        "objective": "Objectives (--objective NAME:WEIGHT, --set terms.NAME.weight=2)",
        "view": "Views (--set views.NAME.SETTING=VALUE)",
        "canvas": "Canvases (--canvas NAME, --set canvas.SETTING=VALUE)",
    }
    shortcuts: ClassVar[Mapping[str, Shortcut]] = {
        "jitter": Shortcut("views.roll.reach", float, "Maximum random roll (share or pixels)"),
        "shift": Shortcut("views.shift.reach", float, "Maximum random shift (share or pixels)"),
        "noise": Shortcut("views.noise.level", float, "Noise level in each augmented copy"),
        "statistics": Shortcut("terms.statistics.form", str, "Form of channel statistics: spread, batch, sampled"),
    }

    model: Live = setting(
        None, "Address of the model (see bothways models).", argument=True, unless=("score", "condition")
    )
    classes: Several | None = setting(
        None, "target classes: names, numbers, ranges such as 0-3, or all", flags=("--class",), common=True
    )
    n: int = setting(4, "pictures per target", ge=1, flags=("--n", "-n"), common=True)
    recipe: str = setting("icons", "recipe: a name (see bothways recipes) or a .toml file", common=True)
    prompts: Several | None = setting(None, "text prompts with optional :WEIGHT", flags=("--prompt",), common=True)
    layer: str | None = setting(None, "layer whose activation is maximised", common=True)
    channels: Several | None = setting(None, "channels of --layer: 3, 0-15, or all", flags=("--channel",), common=True)
    photo: Live = setting(None, "the photo: an image file, a folder or parquet of them, or a tensor", live=True)
    mask: Live = setting(None, "an image of the photo's size, white where it may change", live=True)
    box: Box | None = setting(None, "box that may change, in pixels, instead of a mask", live=True)
    style: Live = setting(None, "the style picture", live=True)
    seed: int = setting(0, "random seed", ge=0, common=True)
    data: Live = setting(None, "real pictures, or a file of bothways statistics", common=True)
    score: Several | None = setting(None, "score models, for the image prior; if unset, MODEL or the condition models")
    condition: Several | None = setting(None, "condition models, for the target, one or several; if unset, MODEL")
    weights: Live = setting(None, "safetensors file of weights for the model")
    spec: Live = setting(None, "ModelSpec of a live module", live=True)
    objective: Live = setting(None, "objectives from bothways.objectives, instead of those of the recipe", live=True)
    objectives: Several | None = setting(
        None, "further objectives: NAME:WEIGHT or PATH.py:NAME:WEIGHT; in Python also functions", flags=("--objective",)
    )
    only: Several | None = setting(
        None, "indices of the pictures to draw, with their groups where these share something; if unset, all"
    )
    batch: int | None = setting(None, "pictures per batch; if unset, as many as fit", ge=1)
    group: int = setting(10, "number of pictures that share batch statistics or a gradient norm", ge=1)

    canvas: CanvasConfig = CanvasConfig()
    views: ViewsConfig = ViewsConfig()
    ascent: AscentConfig = AscentConfig()
    terms: dict[str, TermConfig] = setting({}, "the terms of the objective, by name", live=True)
    sampling: SamplingConfig = SamplingConfig()
    models: ModelsConfig = ModelsConfig()
    judging: JudgingConfig = JudgingConfig()
    share: ShareConfig = ShareConfig()

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Merge changes into the recipe, with the terms of the request first and the objectives added to the terms."""
        added = changes.get("objectives", [])
        added = added if isinstance(added, list | tuple) else [added]
        if not all(isinstance(one, str | Config) or callable(one) for one in added):
            raise UserError(
                f"objectives={shown(added)}; type NAME:WEIGHT or PATH.py:NAME:WEIGHT, or give functions, or a list of "
                "such; with a weight, terms={'mine': {'kind': function, 'weight': 0.5}}"
            )
        whole = merged(merged({"terms": {name: {} for name in OF_THE_REQUEST}}, recipe), changes)
        own_views = whole.get("views")
        own_views = [own_views] if callable(own_views) else own_views
        if isinstance(own_views, Sequence) and not isinstance(own_views, str):  # view objects of a caller
            copies = recipe.get("views", {}).get("copies", 1)
            whole["views"] = {"copies": copies, **{f"view {k}": {"kind": view} for k, view in enumerate(own_views)}}
        canvas = changes.get("canvas", {})
        canvas = canvas if isinstance(canvas, Mapping) else entry_of(canvas)  # a canvas object
        of_recipe = recipe.get("canvas", {})
        # Settings of the recipe's canvas do not apply to a canvas of another kind.
        if canvas.get("kind", of_recipe.get("kind")) != of_recipe.get("kind"):
            of_recipe = {key: value for key, value in of_recipe.items() if key in CanvasConfig.model_fields}
        whole["canvas"] = merged(of_recipe, canvas)
        step = changes.get("ascent")
        if isinstance(step, Mapping) and "rms" in step and "rate" not in step:  # else the recipe's rate would hold
            whole["ascent"].pop("rate", None)
        if not isinstance(whole["terms"], Mapping):
            return whole  # which validation refuses
        return merged(whole, {"terms": _added(whole["terms"], added)})


def entry_of(given: Any) -> dict[str, Any]:
    """The table of an entry that Python holds: a class or function, or a record of settings, which are its own."""
    if not isinstance(given, Config):
        return {"kind": given}
    return {"kind": type(given), **{name: getattr(given, name) for name in type(given).model_fields}}


def _added(terms: Mapping[str, Any], objectives: Sequence[Any]) -> dict[str, Any]:
    """The terms of objectives by name; one of the name of another kind, which it does not replace, has a number."""
    found: dict[str, Any] = {}
    for name, table in map(term_of, objectives):
        same, count = name, 1
        while (there := found.get(same, terms.get(same))) is not None and _kind(same, there) not in ("", table["kind"]):
            count += 1
            same = f"{name} {count}"
        found[same] = table
    return found


def _kind(name: str, table: Any) -> Any:
    """The kind of a term; "" of settings alone, which are those of whatever is added by the name."""
    stated = table.get("kind") if isinstance(table, Mapping) else None
    return stated or (name if name in names("objective") else "")


def term_of(text: Any) -> tuple[str, dict[str, Any]]:
    """Parse "variation:0.5" or "my.py:symmetry:0.5", or an object, to the name of a term and its table."""
    if not isinstance(text, str):
        table = entry_of(text)
        return name_of(table["kind"]), table
    place, colon, last = text.rpartition(":")
    try:
        weight, kind = float(last), place
    except ValueError:
        weight, kind = 1.0, text
    if place.endswith(".py") and last.isalpha():  # a function called nan or inf
        weight, kind = 1.0, text
    if not kind or (colon and not place):
        raise UserError(f"--objective {text!r}: type NAME:WEIGHT, such as variation:0.5 or my.py:symmetry:0.5")
    name = kind.rpartition(":")[2]
    return name, {"kind": kind, "weight": weight}


@register("task", "generate", help="Draw pictures of classes, prompts or layers with a model, or unconditional ones.")
class GenerateConfig(DrawingConfig):
    """Draw n pictures of each class, of the prompts, or of each channel of a layer; or n unconditional pictures.

    MODEL is bundled:NAME, timm:NAME, hf:REPO_OR_FOLDER or another kind (see bothways models), the card written by
    bothways train, or PATH.py:FUNCTION: your own file, whose function returns the module and its bothways.ModelSpec,
    and third, where it reads text, a function that encodes prompts.

    Models trained on web data can produce offensive pictures.

    Examples
    bothways generate bundled:cifar10-resnet --class frog ship --n 8
    bothways generate bundled:cifar10-resnet --class 3 --recipe das --steps 200 --seed 7 --gif
    bothways generate bundled:cifar10-resnet --unconditional --n 50
    bothways generate bundled:cifar10-resnet --unconditional --recipe dsf-paper --set ascent.clip_by=norm
    bothways generate --score bundled:cifar10-resnet --condition bundled:cifar10-attention --class deer
    bothways generate --condition imagenet:efficientnet-lite0 imagenet:efficientnet-lite1 --class ostrich
    bothways generate bundled:cifar10-resnet --class frog --objective my.py:symmetry:0.5
    bothways generate examples/squeezenet.py:build --class 107 1 130 --recipe das --n 1
    bothways generate timm:convnext_tiny.fb_in1k --class goldfish --recipe das
    bothways generate clip:ViT-B/32 --prompt "a jellyfish" --prompt "multiple exposure:-0.3"
    bothways generate examples/fashion_clip.py:build --prompt sandal
    bothways generate bundled:cifar10-resnet --layer stages.2 --channel 3 17
    bothways generate my.py:build --weights my.safetensors --class 0 --data photos/ --judge other.py:build
    """

    gives: ClassVar[str] = "a Result: images (N,3,H,W) in [0,1], labels (N,), records, frames and measures"
    processes: ClassVar[bool] = True

    model: Live = setting(None, "Address of the model (see bothways models).", argument=True, unless=("condition",))
    unconditional: bool | None = setting(None, "draw without a target", flags=("--unconditional",), common=True)

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        """das for prompts, channel for a layer, icons for classes or own objectives, sampled without a target.

        For classes of networks with a linear head, that of ``of_heads`` in its place; for a network of ``PHOTOGRAPHS``
        pixels or more, that of ``of_photographs``.
        """
        prompts = given.get("prompts")
        if prompts is not None and (not hasattr(prompts, "__len__") or len(prompts)):
            return "das"
        if given.get("layer") is not None:
            return "channel"
        of_own = given.get("objective") is not None
        return "icons" if given.get("classes") is not None or of_own else "sampled"

    @classmethod
    def check_typed(cls, given: Mapping[str, Any]) -> None:
        target = any(given.get(name) for name in ("classes", "prompts", "layer"))
        none = bool(given.get("unconditional"))
        if target == none and (none or not given.get("objectives")):
            raise UserError(
                "type --class NAME (one or several), --prompt TEXT or --layer NAME for a target, "
                "or --unconditional for none; not both"
            )
