"""What is done to a photo: edited, filled in, restyled, rebuilt from its embedding, accentuated.

Each is ``generate`` with a recipe of the same name and what it needs; every setting may be given by keyword.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bothways.tasks.generate.asked import TOP_CLASS, Prompt
from bothways.tasks.generate.roles import Address
from bothways.tasks.generate.run import generate
from bothways.tasks.generate.scene import Box, Photo
from bothways.tasks.pictures import Result
from bothways.types import UserError

Classes = Sequence[str | int] | str | int
Prompts = Sequence[str | Prompt] | str


def edit(
    model: Address,
    photo: Photo,
    classes: Classes | None = None,
    *,
    prompts: Prompts | None = None,
    strength: float = 1.0,
    mask: Photo | None = None,
    box: Box | None = None,
    recipe: str = "edit",
    **options: Any,
) -> Result:
    """Change a photo towards a class or words; outside the mask it stays itself, bit for bit.

    photo: an image file, a folder or a parquet of them, or (3,H,W) or (N,3,H,W) in [0,1].
    strength: of the change, 1 as the recipe has it. mask: an image, white where the photo may change; or box, (left,
    top, right, bottom) in pixels. options: those of ``generate``.
    Raises UserError where neither a class nor words are given.
    """
    needs_subject(classes, prompts)
    options |= {"photo": photo, "mask": mask, "box": box, "strength": strength}
    return generate(model, classes, recipe=recipe, prompts=prompts, **options)


def inpaint(
    model: Address,
    photo: Photo,
    mask: Photo | None = None,
    *,
    box: Box | None = None,
    classes: Classes | None = None,
    prompts: Prompts | None = None,
    recipe: str = "inpaint",
    **options: Any,
) -> Result:
    """Fill a hole in a photo; what is known stays itself, bit for bit. Shapes and options as ``edit``.

    Raises UserError where no hole is given.
    """
    needs_hole(mask, box)
    options |= {"photo": photo, "mask": mask, "box": box}
    return generate(model, classes, recipe=recipe, prompts=prompts, **options)


def restyle(model: Address, photo: Photo, style: Photo, *, recipe: str = "style", **options: Any) -> Result:
    """A photo in the style of another picture, which is seen at the model's own size. Options as ``generate``."""
    return generate(model, None, recipe=recipe, photo=photo, style=style, **options)


def invert(model: Address, photo: Photo, *, recipe: str = "invert", **options: Any) -> Result:
    """Pictures, from grey, whose embedding is the photo's: what the model keeps of it. Options as ``generate``."""
    return generate(model, None, recipe=recipe, photo=photo, **options)


def accentuate(
    model: Address,
    photo: Photo,
    classes: Classes | None = None,
    *,
    prompts: Prompts | None = None,
    recipe: str = "accentuate",
    **options: Any,
) -> Result:
    """A photo with more of what speaks for a class, its own early activations held. Options as ``generate``.

    classes: None takes, for each photo, the class that the model itself finds in it.
    """
    classes = TOP_CLASS if classes is None and not prompts else classes
    return generate(model, classes, recipe=recipe, prompts=prompts, photo=photo, **options)


def needs_subject(classes: Classes | None, prompts: Prompts | None) -> None:
    """Raise UserError where nothing says what a photo is to become."""
    if not classes and classes != 0 and not prompts:
        raise UserError("edit needs to know what the photo is to become; type --class NAME, or --prompt TEXT")


def needs_hole(mask: Photo | None, box: Box | None) -> None:
    """Raise UserError where no hole is given."""
    if mask is None and box is None:
        raise UserError("inpaint fills a hole, and none was given; type --mask FILE, or --box LEFT TOP RIGHT BOTTOM")
