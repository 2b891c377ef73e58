"""Prepare the tasks on a photo: edit, inpaint, style, invert, accentuate."""

from __future__ import annotations

from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.request import TOP_CLASS
from bothways.tasks.generate.run import prepare_drawing
from bothways.tasks.photos.config import AccentuateConfig, EditConfig, InpaintConfig, PhotoConfig
from bothways.tasks.work import Where
from bothways.types import UserError


def prepare(config: PhotoConfig, where: Where) -> Drawing:
    """Prepare a run of a task on a photo. Raises UserError for invalid input, before the first step."""
    check(config)
    if isinstance(config, AccentuateConfig) and config.classes is None and not config.prompts:
        config = config.model_copy(update={"classes": [TOP_CLASS]})
    return prepare_drawing(config.own_recipe, config, where)


def check(config: PhotoConfig) -> None:
    """Raise UserError if edit has no target, or inpaint has no hole."""
    if isinstance(config, EditConfig) and not config.classes and config.classes != 0 and not config.prompts:
        raise UserError("edit needs a target; type --class NAME, or --prompt TEXT")
    if isinstance(config, InpaintConfig) and config.mask is None and config.box is None:
        raise UserError("inpaint needs a hole to fill; type --mask FILE, or --box LEFT TOP RIGHT BOTTOM")
