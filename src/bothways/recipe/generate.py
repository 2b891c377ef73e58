"""Draw pictures, of classes or of none: settings -> batches -> frames -> run folder -> verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.loops.ascend import Ascent, ascend
from bothways.models.adapter import Adapter
from bothways.recipe.assess import assess, find_jury, find_references
from bothways.recipe.canvas import find_photos, geometry
from bothways.recipe.parts import batch_parts, check_parts
from bothways.recipe.priors import find_priors, settled
from bothways.recipe.result import Result, peak_memory, tables
from bothways.recipe.roles import Address, Roles, find_labels, find_models
from bothways.recipe.settings import DrawSettings, default_recipe, draw_settings
from bothways.runs import RunFolder
from bothways.synthesis.judge import Reference
from bothways.types import Frame, ModelSpec, UserError

PIXELS_AT_ONCE = 1_000_000  # copies x height x width x pictures of a batch: what fits in a gigabyte or two
PICTURES_AT_ONCE = 50
SECONDS_BETWEEN_SAVES = 10.0
SEEDS_OF_A_RUN = 1_000_000
NO_CLASS = -1


@dataclass
class Drawing:
    """One run: which pictures, by what, and what is done so far. ``run`` makes them; ``result`` holds them."""

    roles: Roles
    settings: DrawSettings
    labels: list[int]
    photos: Tensor | None = None
    only: Collection[int] | None = None
    folder: RunFolder | None = None
    jury: list[Adapter] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    images: dict[int, Tensor] = field(default_factory=dict)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def model(self) -> Adapter:
        """Whose size and classes the pictures have."""
        return self.roles.main

    def batches(self) -> list[list[int]]:
        """The numbers of the pictures of each batch. Where a group's pictures are coupled it is drawn whole."""
        high, wide = geometry(self.settings, self.model.spec).canvas
        specs = [model.spec for model in (*self.roles.condition, *self.roles.score)]
        pixels = max(high * wide, *(spec.height * spec.width for spec in specs))
        fits = PIXELS_AT_ONCE // (self.settings.copies * pixels)
        size = self.settings.batch or max(1, min(PICTURES_AT_ONCE, fits))
        if self.settings.coupled:
            size = self.settings.group
        everything = list(range(len(self.labels)))
        if self.only is not None and not self.settings.coupled:
            everything = sorted(self.only)
        parts = [everything[i : i + size] for i in range(0, len(everything), size)]
        return [part for part in parts if self.only is None or set(part) & set(self.only)]

    def run(self) -> Generator[tuple[int, Frame], None, None]:
        """Yield (batch number, frame) after every step. However it ends, the run folder is left whole."""
        began = time.monotonic()
        state, message = "stopped", "stopped before the end; type --resume to go on"
        try:
            for number, pictures in enumerate(self.batches()):
                if not self._finished_before(pictures):
                    yield from self._batch(number, pictures)
            state, message = "complete", ""
            if self.folder is not None:  # with those that a run cut short had made
                self.frames = [Frame(f["step"], f["t"], None, _numbered(f)) for f in self.folder.frames]
        except Exception as error:
            state, message = "failed", str(error)
            raise
        finally:
            self.seconds += time.monotonic() - began
            if self.folder is not None:
                facts = {"seconds": self.seconds, "peak_mb": peak_memory(self.model.device), "of": len(self.labels)}
                # the verdicts are still to come: `generate` says when all is complete
                self.folder.finish("running" if state == "complete" else state, message, **facts)

    def result(self, measures: dict[str, Any] | None = None) -> Result:
        """All finished pictures, in order."""
        order = sorted(self.images)
        images = torch.stack([self.images[i] for i in order]) if order else torch.zeros(0, 3, 1, 1)
        labels = torch.tensor([self.labels[i] for i in order], dtype=torch.int64)
        return Result(
            images,
            labels,
            [self.records[i] for i in order],
            self.frames,
            measures or {},
            tables(self.roles, self.settings, self.labels),
        )

    def _batch(self, number: int, pictures: list[int]) -> Generator[tuple[int, Frame], None, None]:
        labels = torch.tensor([self.labels[i] for i in pictures])
        seeds = [picture_seed(self.settings.seed, i) for i in pictures]
        photos = None if self.photos is None else self.photos[[i % len(self.photos) for i in pictures]]
        field_, ascent, draws = batch_parts(self.roles, self.settings, labels, seeds, photos)
        self._go_on(number, pictures, ascent)
        good, saved = (ascent.tensors(), ascent.step), time.monotonic()
        try:
            for frame in ascend(field_, ascent, draws):
                self.frames.append(Frame(frame.step, frame.t, None, {**frame.stats, "batch": number}))
                if self.folder is not None:
                    self.folder.append_frame(frame, number)
                    good = ascent.tensors(), ascent.step
                    if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                        self._save_state(number, pictures, ascent)
                        saved = time.monotonic()
                yield number, replace(frame, image=None if frame.image is None else self._seen(frame.image))
        except BaseException:
            if self.folder is not None:  # an interrupt may come in the middle of a step, or before its line is written
                ascent.load(*good)
            self._save_state(number, pictures, ascent)
            self._keep(pictures, ascent, unfinished=True)
            raise
        self._keep(pictures, ascent)
        if self.folder is not None:
            self.folder.clear_state()

    def _seen(self, canvas: Tensor) -> Tensor:
        """The picture inside the canvas, rounded to 8 bits."""
        place = geometry(self.settings, self.model.spec)
        return (255 * place.crop()(canvas[:, None], None, 0.0)[:, 0].detach().cpu().float()).round() / 255  # type: ignore[arg-type]

    @torch.no_grad()
    def _keep(self, pictures: list[int], ascent: Ascent, *, unfinished: bool = False) -> None:
        images = self._seen(ascent.parameterization.image())
        records = [self._record(index) for index in pictures]
        if self.roles.condition:
            logits = torch.cat([self.model.outputs(part.to(self.model.device)).cpu() for part in images.split(16)])
            for record, own in zip(records, logits.softmax(1), strict=True):
                record["own_probability"] = own[record["label"]].item()
        if unfinished:
            records = [{**record, "unfinished": True, "step": ascent.step} for record in records]
        if self.folder is not None:
            records = self.folder.save_pictures(images, records)
        if not unfinished:
            self.images.update(zip(pictures, images, strict=True))
            self.records.update(zip(pictures, records, strict=True))

    def _record(self, index: int) -> dict[str, Any]:
        label, seed = self.labels[index], picture_seed(self.settings.seed, index)
        if label == NO_CLASS:
            return {"index": index, "label": None, "class": None, "seed": seed}
        return {"index": index, "label": label, "class": self.model.spec.class_name(label), "seed": seed}

    def _finished_before(self, pictures: list[int]) -> bool:
        """Take a batch that an earlier, stopped run finished from its folder."""
        if self.folder is None:
            return False
        done = {r["index"]: r for r in self.folder.pictures if not r.get("unfinished")}
        if not set(pictures) <= set(done):
            return False
        for index in pictures:
            self.images[index], self.records[index] = self.folder.read_picture(done[index]), done[index]
        return True

    def _save_state(self, number: int, pictures: list[int], ascent: Ascent) -> None:
        if self.folder is not None:
            self.folder.save_state(ascent.tensors(), {"batch": number, "pictures": pictures, "step": ascent.step})

    def _go_on(self, number: int, pictures: list[int], ascent: Ascent) -> None:
        """Take up the state of a killed run, and drop the frames that will be made again."""
        if self.folder is None:
            return
        state = self.folder.load_state()
        if state is not None and state[1]["pictures"] == pictures:
            ascent.load(state[0], state[1]["step"])
        self.folder.drop_frames_after(number, ascent.step)


def generate(
    model: Address | None = None,
    classes: Sequence[str | int] | str | int | None = None,
    n: int | None = None,
    recipe: str | None = None,
    *,
    on_frame: Callable[[int, Frame], None] | None = None,
    **options: Any,
) -> Result:
    """Draw n pictures of each class, or n pictures of no class.

    model: an address, an ``nn.Module`` with ``spec``, or what ``load_model`` gave. classes: names or numbers; None
    draws without any. recipe: its name; None takes ``icons`` for classes and ``sampled`` for none.
    n, steps, seed and every other setting of the recipe may be given by keyword, beside these:

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
    chosen = draw_settings(recipe or default_recipe(classes is not None), **settings)
    asked = [classes] if isinstance(classes, str | int) else classes
    condition_models, score_models = find_models(
        model, chosen, asked, score=score, condition=condition, spec=spec, weights=weights
    )
    labels = [NO_CLASS] if asked is None else find_labels(condition_models, asked)
    labels = [label for _ in range(chosen.n) for label in labels]  # round by round, so that a group mixes classes
    outside = [i for i in only or () if not 0 <= i < len(labels)]
    if outside:
        raise UserError(f"--only {outside[0]}: the run has pictures 0 to {len(labels) - 1}")
    chosen = settled(score_models, chosen, data)
    roles = Roles(condition_models, score_models, find_priors(score_models, chosen, data))
    photos = find_photos(chosen, roles.main.spec)
    check_parts(roles, chosen, photos)
    jury = find_jury(roles.main, judges)
    references = find_references(jury, data)
    drawing = Drawing(roles, chosen, labels, photos, only, None, jury, references)
    if out is not None:
        told = tables(roles, chosen, labels, data)
        drawing.folder = RunFolder.create(out, told, overwrite=overwrite, resume=resume)
        drawing.seconds = float(drawing.folder.status["seconds"])
    return drawing


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
        drawing.folder.finish("complete", of=len(drawing.labels), seconds=cost["seconds"], peak_mb=cost["peak_mb"])
    return drawing.result(measures)


def _numbered(line: dict[str, Any]) -> dict[str, Any]:
    return {**line["stats"], "batch": line["batch"]}


def picture_seed(run_seed: int, index: int) -> int:
    """The seed of one picture: the same whatever else the run holds."""
    return run_seed * SEEDS_OF_A_RUN + index
