"""Draw pictures, of what is asked or of nothing in particular: settings -> run -> verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from bothways.judging.judges import find_jury
from bothways.judging.references import find_references
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder
from bothways.runs.provenance import peak_memory
from bothways.tasks.generate.asked import TOP_CLASS, Prompt, asked_of, read_prompts, top_labels
from bothways.tasks.generate.assess import assess
from bothways.tasks.generate.canvas import find_photos
from bothways.tasks.generate.config import default_recipe, draw_settings
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.parts import check_parts
from bothways.tasks.generate.priors import find_priors, settled
from bothways.tasks.generate.result import tables
from bothways.tasks.generate.roles import Address, Roles, find_labels, find_models
from bothways.tasks.generate.scene import Box, Photo, find_scene, keep_scene
from bothways.tasks.pictures import Result
from bothways.types import Frame, ModelSpec, UserError


def generate(
    model: Address | None = None,
    classes: Sequence[str | int] | str | int | None = None,
    n: int | None = None,
    recipe: str | None = None,
    *,
    on_frame: Callable[[int, Frame], None] | None = None,
    **options: Any,
) -> Result:
    """Draw n pictures of each class, of the prompts, of a layer's channels, or n pictures of nothing in particular.

    model: an address, an ``nn.Module`` with ``spec``, or what ``load_model`` gave. classes: names or numbers; None
    draws without any. recipe: its name; None takes ``icons`` for classes, ``das`` for prompts, ``channel`` for layers,
    ``sampled`` for none of them. n, steps, seed and every other setting may be given by keyword, beside these:

    prompts: words, each "TEXT", "TEXT:WEIGHT" or (text, weight), together for every picture; the model reads text.
    layer, channels: n pictures of each channel of a layer, or of the whole layer where no channel is named.
    photo, mask, box, style: what recipes such as ``edit`` start from and keep (see ``bothways.edit``).
    score, condition: models that say what is real and which class, where they are not ``model``; several of each
    share one picture, each at its own size (DSF, eq. 13).
    judges: models that say what they see; None takes the bundled ones where their classes are the model's.
    data: real pictures, for statistics and as the judges' reference, or a file that ``statistics`` wrote.
    out, overwrite, resume: a run folder, written as the run goes on. only: the numbers of the pictures to draw.
    spec, weights: of ``model``. on_frame: called with (batch, frame) after every step.
    Raises UserError for what cannot be, RunError where something fails on the way.
    """
    drawing = prepare(model, classes, recipe, n=n, **options)
    with closing(drawing.run()) as steps:  # closed, so that the folder is whole whatever on_frame raises
        for batch, frame in steps:
            if on_frame is not None:
                on_frame(batch, frame)
    return conclude(drawing)


def prepare(
    model: Address | None,
    classes: Sequence[str | int] | str | int | None = None,
    recipe: str | None = None,
    *,
    prompts: Sequence[str | Prompt] | str | None = None,
    layer: str | None = None,
    channels: Sequence[int] | int | None = None,
    photo: Photo | None = None,
    mask: Photo | None = None,
    box: Box | None = None,
    style: Photo | None = None,
    score: Sequence[Address] = (),
    condition: Sequence[Address] = (),
    spec: ModelSpec | None = None,
    weights: str | Path | None = None,
    judges: Sequence[str | Adapter] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    only: Collection[int] | None = None,
    **settings: Any,
) -> Drawing:
    """Everything of ``generate`` that can be refused, before a run folder is touched and the first step is made."""
    words = read_prompts(prompts)
    chosen = draw_settings(recipe or default_recipe(classes is not None, bool(words), layer is not None), **settings)
    wanted = [classes] if isinstance(classes, str | int) else classes
    anything = wanted is not None or bool(words) or layer is not None or chosen.resembles
    condition_models, score_models = find_models(
        model, chosen, anything, score=score, condition=condition, spec=spec, weights=weights
    )
    labels = [] if wanted in (None, [TOP_CLASS]) else find_labels(condition_models, wanted)
    picked = [channels] if isinstance(channels, int) else channels or []
    scene = find_scene(photo, mask, box, style, chosen.size)
    asked = asked_of(chosen.n, labels, scene, prompts=words, layer=layer, channels=picked)
    if wanted == [TOP_CLASS]:
        top = top_labels(condition_models[0], scene)
        asked = replace(asked, labels=tuple(top[i % len(top)] for i in range(len(asked))))
    outside = [i for i in only or () if not 0 <= i < len(asked)]
    if outside:
        raise UserError(f"--only {outside[0]}: the run has pictures 0 to {len(asked) - 1}")
    chosen = settled(score_models, chosen, data)
    roles = Roles(condition_models, score_models, find_priors(score_models, chosen, data, scene.mask))
    if photo is None:
        asked = replace(asked, scene=replace(scene, photos=find_photos(chosen, roles.main.spec)))
    check_parts(roles, chosen, asked)
    jury = find_jury(roles.main, judges)
    references = find_references(jury, data)
    files = {"data": data, "photo": photo, "mask": mask, "box": box, "style": style}
    drawing = Drawing(roles, chosen, asked, only, None, jury, references, files)
    if out is not None:
        keep_scene(scene, in_folder(drawing, out, overwrite=overwrite, resume=resume).path)
    return drawing


def in_folder(drawing: Drawing, out: str | Path, *, overwrite: bool = False, resume: bool = False) -> RunFolder:
    """The run folder of a drawing, which it then writes to. Raises UserError where ``RunFolder.create`` does."""
    told = tables(drawing.roles, drawing.settings, drawing.asked, drawing.files)
    drawing.folder = RunFolder.create(out, told, overwrite=overwrite, resume=resume)
    drawing.seconds = float(drawing.folder.status["seconds"])
    return drawing.folder


def conclude(drawing: Drawing) -> Result:
    """The verdicts on a finished drawing, kept in its run folder."""
    try:
        return _judged(drawing)
    except BaseException as error:
        if drawing.folder is not None:
            state = "failed" if isinstance(error, Exception) else "stopped"
            drawing.folder.finish(state, f"drawn but not judged ({error}); type --resume to go on")
        raise


def _judged(drawing: Drawing) -> Result:
    result = drawing.result()
    cost = {
        "seconds": drawing.seconds,
        "seconds_per_picture": drawing.seconds / max(1, len(result)),
        "peak_mb": peak_memory(drawing.model.device),
    }
    measures = {**assess(result, drawing.roles, drawing.settings, drawing.jury, drawing.references), "cost": cost}
    if drawing.folder is not None:
        drawing.folder.write_measures(measures)
        drawing.folder.finish("complete", of=len(drawing.asked), seconds=cost["seconds"], peak_mb=cost["peak_mb"])
    return drawing.result(measures)
