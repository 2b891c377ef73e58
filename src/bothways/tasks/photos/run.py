"""Prepare the tasks on a photo: edit, inpaint, style, invert, accentuate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.request import TOP_CLASS
from bothways.tasks.generate.run import prepare_drawing
from bothways.tasks.photos.config import AccentuateConfig, EditConfig, InpaintConfig, PhotoConfig
from bothways.tasks.pictures import Result
from bothways.tasks.work import Where
from bothways.types import UserError


def prepare(config: PhotoConfig, where: Where) -> Drawing:
    """Prepare a run of a task on a photo. Raises UserError for invalid input, before the first step."""
    check(config)
    if isinstance(config, AccentuateConfig) and config.classes is None and not config.prompts:
        config = config.model_copy(update={"classes": [TOP_CLASS]})
    drawing = prepare_drawing(config.own_recipe, config, where)
    if isinstance(config, EditConfig):
        drawing.advice = partial(of_missed, boxed=config.mask is not None or config.box is not None)
    return drawing


def of_missed(result: Result, *, boxed: bool) -> Iterator[str]:
    """One line where the judges recognise the target in less than half of the pictures; none without judges.

    The judges that gave no gradient count, the others only where there are none. boxed: a part alone may change.
    """
    verdicts = [verdict for verdict in result.measures.get("judges", ()) if verdict["n"]]
    verdicts = [verdict for verdict in verdicts if not verdict["gave_gradient"]] or verdicts
    if 2 * sum(verdict["hit_rate"] * verdict["n"] for verdict in verdicts) >= sum(verdict["n"] for verdict in verdicts):
        return
    counts = (f"{round(v['hit_rate'] * v['n'])} of {v['n']} ({v['judge'].removeprefix('bundled:')})" for v in verdicts)
    yield f"recognised in {', '.join(counts)}: {'type a larger --box or --mask, or ' * boxed}raise --strength"


def check(config: PhotoConfig) -> None:
    """Raise UserError if edit has no target, or inpaint has no hole."""
    if isinstance(config, EditConfig) and not config.classes and config.classes != 0 and not config.prompts:
        raise UserError("edit needs a target; type --class NAME, or --prompt TEXT")
    if isinstance(config, InpaintConfig) and config.mask is None and config.box is None:
        raise UserError("inpaint needs a hole to fill; type --mask FILE, or --box LEFT TOP RIGHT BOTTOM")
