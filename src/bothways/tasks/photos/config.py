"""The settings of the tasks on a photo: each is a drawing with the recipe of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bothways.configs import Live, setting
from bothways.registry import register
from bothways.tasks.generate.config import PHOTOGRAPHS, Box, DrawingConfig

PHOTO = "An image file, or a folder or parquet file of images; in Python also pictures of PIL, numpy or torch."
MASK = "mask: an image of the photo's size, white where the photo may change"
BOX = "box that may change, in pixels, instead of a mask"
LEFT_TOP = "LEFT TOP RIGHT BOTTOM"


class PhotoConfig(DrawingConfig):
    """The settings of every task on a photo. Pixels outside the mask or box are unchanged, bit for bit."""

    gives: ClassVar[str] = "a Result: images (N,3,H,W) in [0,1], labels (N,), records, frames and measures"
    of_photographs: ClassVar[Mapping[str, str]] = {
        "style": "style-photographs",
        "invert": "from-features",
        "accentuate": "accentuate-photographs",
    }
    positional: ClassVar[tuple[str, ...]] = ("model", "photo")

    model: Live = setting(..., "Address of the model (see bothways models).", argument=True)
    photo: Live = setting(..., PHOTO, argument=True)


@register("task", "edit", help="Edit a photo towards a class or a text prompt.")
class EditConfig(PhotoConfig):
    """Edit a photo towards a class or a text prompt; pixels outside the mask are unchanged, bit for bit.

    The photo keeps its size and is resized for the model. Models trained on web data can produce offensive pictures.

    Examples
    bothways edit bundled:cifar10-resnet photo.png --class frog --strength 1.5
    bothways edit clip:ViT-B/32 photo.jpg --prompt 'a cat with sunglasses' --box 40 20 180 90
    """

    own_recipe: ClassVar[str] = "edit"
    of_heads: ClassVar[Mapping[str, str]] = {"edit": "edit-photographs"}
    heads_from: ClassVar[int] = PHOTOGRAPHS
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "classes")
    mask: Live = setting(None, MASK, common=True)
    box: Box | None = setting(None, BOX, common=True, metavar=LEFT_TOP)


@register("task", "inpaint", help="Fill a hole in a photo.")
class InpaintConfig(PhotoConfig):
    """Fill a hole in a photo; pixels outside the hole are unchanged, bit for bit.

    The photo keeps its size and is resized for the model. With --recipe edit, --class or --prompt set the content of
    the hole.

    Examples
    bothways inpaint bundled:cifar10-resnet photo.png --box 8 8 20 20
    bothways inpaint bundled:cifar10-resnet photos/ --mask hole.png --recipe edit --class ship
    """

    own_recipe: ClassVar[str] = "inpaint"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "mask")
    mask: Live = setting(None, MASK, common=True)
    box: Box | None = setting(None, BOX, common=True, metavar=LEFT_TOP)


@register("task", "style", help="Render a photo in the style of another picture.")
class StyleConfig(PhotoConfig):
    """Render a photo in the style of another picture, by matching its content and the other's channel statistics.

    Examples
    bothways style examples/squeezenet.py:build photo.jpg painting.jpg --size 224
    """

    own_recipe: ClassVar[str] = "style"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "style")
    style: Live = setting(..., "The style picture, resized to the size of the model.", argument=True)


@register("task", "invert", help="Reconstruct a photo from its embedding, starting from grey.")
class InvertConfig(PhotoConfig):
    """Reconstruct a photo from its embedding, starting from grey: what the model retains of it.

    Examples
    bothways invert bundled:cifar10-attention photo.png --n 4
    bothways invert examples/squeezenet.py:build photo.jpg --size 224 --set terms.embedding.layer=outputs
    """

    own_recipe: ClassVar[str] = "invert"


@register("task", "accentuate", help="Amplify the evidence for a class in a photo.")
class AccentuateConfig(PhotoConfig):
    """Amplify the evidence for a class in a photo, while preserving its early activations.

    Without a class, the model's prediction for each photo is used.

    Examples
    bothways accentuate bundled:cifar10-resnet photo.png
    bothways accentuate examples/squeezenet.py:build photo.jpg --class 107 --size 224
    """

    own_recipe: ClassVar[str] = "accentuate"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "classes")
