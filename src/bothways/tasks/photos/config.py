"""The settings of what is done to a photo: each task is a drawing with a recipe of its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bothways.configs import Live, setting
from bothways.registry import register
from bothways.tasks.generate.config import Box, DrawingConfig

PHOTO = "An image file, or a folder or parquet of them; from Python what PIL, numpy or torch hold too."
MASK = "an image of the photo's size, white where it may change"
BOX = "pixels in place of a mask"
STRENGTH = "of the change: a factor of every step's length"
LEFT_TOP = "LEFT TOP RIGHT BOTTOM"


class PhotoConfig(DrawingConfig):
    """What every task on a photo is told. What a mask or a box keeps comes back bit for bit."""

    own_recipe: ClassVar[str] = ""
    positional: ClassVar[tuple[str, ...]] = ("model", "photo")

    model: Live = setting(..., "The model's address.", argument=True)
    photo: Live = setting(..., PHOTO, argument=True)

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        return cls.own_recipe


@register("task", "edit", help="Change a photo towards a class or words.")
class EditConfig(PhotoConfig):
    """Change a photo towards a class or words; outside the mask it stays itself, bit for bit.

    A photo keeps its own size; the model sees it at the model's. Words may draw what not everyone wants to see.

    Examples
    bothways edit bundled:cifar10-resnet photo.png --class frog --strength 1.5
    bothways edit clip:ViT-B/32 photo.jpg --prompt 'a cat with sunglasses' --box 40 20 180 90
    """

    own_recipe: ClassVar[str] = "edit"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "classes")
    mask: Live = setting(None, MASK, common=True)
    box: Box | None = setting(None, BOX, common=True, metavar=LEFT_TOP)


@register("task", "inpaint", help="Fill a hole in a photo.")
class InpaintConfig(PhotoConfig):
    """Fill a hole in a photo; what is known stays itself, bit for bit.

    A photo keeps its own size; the model sees it at the model's. With --recipe edit, --class or --prompt say what is to
    be in the hole.

    Examples
    bothways inpaint bundled:cifar10-resnet photo.png --box 8 8 20 20
    bothways inpaint bundled:cifar10-resnet photos/ --mask hole.png --recipe edit --class ship
    """

    own_recipe: ClassVar[str] = "inpaint"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "mask")
    mask: Live = setting(None, MASK, common=True)
    box: Box | None = setting(None, BOX, common=True, metavar=LEFT_TOP)


@register("task", "style", help="A photo in the style of another picture.")
class StyleConfig(PhotoConfig):
    """A photo in the style of another picture: the channel statistics of one, the content of the other.

    Examples
    bothways style examples/squeezenet.py:build photo.jpg painting.jpg --size 224
    """

    own_recipe: ClassVar[str] = "style"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "style")
    style: Live = setting(..., "The picture whose style is taken, seen at the model's own size.", argument=True)


@register("task", "invert", help="What a model keeps of a photo: a picture, from grey, with the same embedding.")
class InvertConfig(PhotoConfig):
    """Pictures, from grey, whose embedding is the photo's: what the model keeps of it.

    Examples
    bothways invert bundled:cifar10-attention photo.png --n 4
    bothways invert examples/squeezenet.py:build photo.jpg --size 224 --set terms.embedding.layer=outputs
    """

    own_recipe: ClassVar[str] = "invert"


@register("task", "accentuate", help="A photo with more of what speaks for a class.")
class AccentuateConfig(PhotoConfig):
    """A photo with more of what speaks for a class; its own early activations are held.

    Without a class, that of the model's own prediction for each photo is taken.

    Examples
    bothways accentuate bundled:cifar10-resnet photo.png
    bothways accentuate examples/squeezenet.py:build photo.jpg --class 107 --size 224
    """

    own_recipe: ClassVar[str] = "accentuate"
    positional: ClassVar[tuple[str, ...]] = ("model", "photo", "classes")
