"""Draw pictures of classes: settings -> batches -> frames -> run folder -> verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.sources import load_images
from bothways.loops.ascend import Ascent, ascend
from bothways.models.adapter import Adapter
from bothways.models.catalogue import load_model
from bothways.recipe.assess import assess, find_jury, find_references
from bothways.recipe.parts import Prior, batch_parts, check_parts, find_classes, find_prior, geometry
from bothways.recipe.result import Result, peak_memory, tables
from bothways.recipe.settings import DEFAULT_RECIPE, DrawSettings, draw_settings
from bothways.runs import RunFolder
from bothways.synthesis.judge import Reference
from bothways.types import Frame, ModelSpec, UserError

PIXELS_AT_ONCE = 1_000_000  # copies x height x width x pictures of a batch: what fits in a gigabyte or two
PICTURES_AT_ONCE = 50
SECONDS_BETWEEN_SAVES = 10.0
SEEDS_OF_A_RUN = 1_000_000
SPREAD_PICTURES = 2000  # real pictures that channel statistics are measured on


@dataclass
class Drawing:
    """One run: which pictures, by what, and what is done so far. ``run`` makes them; ``result`` holds them."""

    model: Adapter
    settings: DrawSettings
    labels: list[int]
    prior: Prior
    only: Collection[int] | None = None
    folder: RunFolder | None = None
    jury: list[Adapter] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    images: dict[int, Tensor] = field(default_factory=dict)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    seconds: float = 0.0

    def batches(self) -> list[list[int]]:
        """The numbers of the pictures of each batch. With batch statistics a batch is a group, drawn whole."""
        place = geometry(self.settings, self.model)
        fits = PIXELS_AT_ONCE // (self.settings.copies * place.canvas[0] * place.canvas[1])
        size = self.settings.batch or max(1, min(PICTURES_AT_ONCE, fits))
        if self.settings.statistics == "batch":
            size = self.settings.group
        everything = list(range(len(self.labels)))
        if self.only is not None and self.settings.statistics != "batch":
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
            tables(self.model, self.settings, list(dict.fromkeys(self.labels))),
        )

    def _batch(self, number: int, pictures: list[int]) -> Generator[tuple[int, Frame], None, None]:
        labels = torch.tensor([self.labels[i] for i in pictures])
        seeds = [picture_seed(self.settings.seed, i) for i in pictures]
        field_, ascent, draws = batch_parts(self.model, self.settings, labels, seeds, self.prior)
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
        place = geometry(self.settings, self.model)
        return (255 * place.crop()(canvas[:, None], None, 0.0)[:, 0].detach().cpu().float()).round() / 255  # type: ignore[arg-type]

    @torch.no_grad()
    def _keep(self, pictures: list[int], ascent: Ascent, *, unfinished: bool = False) -> None:
        images = self._seen(ascent.parameterization.image())
        logits = torch.cat([self.model.outputs(part.to(self.model.device)).cpu() for part in images.split(16)])
        own = logits.softmax(1)
        records = []
        for place, index in enumerate(pictures):
            label = self.labels[index]
            record = {
                "index": index,
                "label": label,
                "class": self.model.spec.class_name(label),
                "seed": picture_seed(self.settings.seed, index),
                "own_probability": own[place, label].item(),
            }
            records.append({**record, "unfinished": True, "step": ascent.step} if unfinished else record)
        if self.folder is not None:
            records = self.folder.save_pictures(images, records)
        if not unfinished:
            self.images.update(zip(pictures, images, strict=True))
            self.records.update(zip(pictures, records, strict=True))

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
    model: str | Path | nn.Module | Adapter,
    classes: Sequence[str | int] | str | int,
    n: int | None = None,
    recipe: str = DEFAULT_RECIPE,
    *,
    spec: ModelSpec | None = None,
    judges: Sequence[str | Adapter] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    only: Collection[int] | None = None,
    on_frame: Callable[[int, Frame], None] | None = None,
    **settings: Any,
) -> Result:
    """Draw n pictures of each class.

    model: an address, an ``nn.Module`` with ``spec``, or what ``load_model`` gave.
    classes: names or numbers. n, steps, seed and every other setting of the recipe may be given by keyword.
    judges: models that say what they see; None takes the bundled ones where their classes are the model's.
    data: real pictures, for channel statistics and as the judges' reference.
    out: a run folder, written as the run goes on; only: the numbers of the pictures to draw.
    on_frame: called with (batch, frame) after every step.
    Raises UserError for what cannot be, RunError where something fails on the way.
    """
    drawing = prepare(
        model,
        classes,
        recipe,
        spec=spec,
        data=data,
        judges=judges,
        out=out,
        overwrite=overwrite,
        resume=resume,
        only=only,
        n=n,
        **settings,
    )
    with closing(drawing.run()) as steps:  # closed, so that the folder is whole whatever on_frame raises
        for batch, frame in steps:
            if on_frame is not None:
                on_frame(batch, frame)
    return conclude(drawing)


def prepare(
    model: str | Path | nn.Module | Adapter,
    classes: Sequence[str | int] | str | int,
    recipe: str = DEFAULT_RECIPE,
    *,
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
    chosen = draw_settings(recipe, **settings)
    if not isinstance(model, Adapter):
        model = load_model(model, spec, weights=weights, device=chosen.device, dtype=chosen.dtype)
    wanted = find_classes(model, [classes] if isinstance(classes, str | int) else classes)
    labels = [label for _ in range(chosen.n) for label in wanted]  # round by round, so that a group mixes classes
    outside = [i for i in only or () if not 0 <= i < len(labels)]
    if outside:
        raise UserError(f"--only {outside[0]}: the run has pictures 0 to {len(labels) - 1}")
    real = None
    if data is not None and chosen.statistics == "spread":
        real = load_images(data, size=(model.spec.height, model.spec.width), limit=SPREAD_PICTURES).images.float() / 255
    prior = find_prior(model, chosen, real)
    check_parts(model, chosen, prior)
    jury = find_jury(model, judges)
    references = find_references(jury, data)
    if out is None:
        return Drawing(model, chosen, labels, prior, only, None, jury, references)
    folder = RunFolder.create(out, tables(model, chosen, wanted), overwrite=overwrite, resume=resume)
    before = float(folder.status["seconds"])
    return Drawing(model, chosen, labels, prior, only, folder, jury, references, seconds=before)


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
    measures = {**assess(result, drawing.model, drawing.settings, drawing.jury, drawing.references), "cost": cost}
    if drawing.folder is not None:
        drawing.folder.write_measures(measures)
        drawing.folder.finish("complete", of=len(drawing.labels), seconds=cost["seconds"], peak_mb=cost["peak_mb"])
    return drawing.result(measures)


def _numbered(line: dict[str, Any]) -> dict[str, Any]:
    return {**line["stats"], "batch": line["batch"]}


def picture_seed(run_seed: int, index: int) -> int:
    """The seed of one picture: the same whatever else the run holds."""
    return run_seed * SEEDS_OF_A_RUN + index
