"""One run of a drawing: batches -> frames -> run folder, to be stopped and resumed at any step."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bothways.judging.verdicts import Reference
from bothways.models.adapter import Adapter
from bothways.numerics.draws import picture_seed
from bothways.numerics.pyramid import resize
from bothways.runs import RunFolder
from bothways.runs.provenance import peak_memory
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.maco import transparency
from bothways.tasks.generate.asked import NO_CLASS, Asked
from bothways.tasks.generate.canvas import Geometry, geometry
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.generate.parts import batch_parts
from bothways.tasks.generate.result import tables
from bothways.tasks.generate.roles import Roles
from bothways.tasks.pictures import Result
from bothways.types import Frame

PIXELS_AT_ONCE = 1_000_000  # copies x height x width x pictures of a batch: what fits in a gigabyte or two
PICTURES_AT_ONCE = 50
SECONDS_BETWEEN_SAVES = 10.0


@dataclass
class Drawing:
    """One run: which pictures, by what, and what is done so far. ``run`` makes them; ``result`` holds them.

    files: the data, photos and masks that it was given, by what they are for.
    """

    roles: Roles
    settings: DrawSettings
    asked: Asked
    only: Collection[int] | None = None
    folder: RunFolder | None = None
    jury: list[Adapter] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    images: dict[int, Tensor] = field(default_factory=dict)
    alphas: dict[int, Tensor] = field(default_factory=dict)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def model(self) -> Adapter:
        """Whose size and classes the pictures have."""
        return self.roles.main

    @property
    def place(self) -> Geometry:
        """The size of the pictures and of the canvas."""
        return geometry(self.settings, self.model.spec, self.asked.scene)

    def batches(self) -> list[list[int]]:
        """The numbers of the pictures of each batch. Where a group's pictures are coupled it is drawn whole."""
        high, wide = self.place.canvas
        specs = [model.spec for model in (*self.roles.condition, *self.roles.score)]
        pixels = max(high * wide, *(spec.height * spec.width for spec in specs))
        fits = PIXELS_AT_ONCE // (self.settings.copies * pixels)
        size = self.settings.batch or max(1, min(PICTURES_AT_ONCE, fits))
        if self.settings.coupled:
            size = self.settings.group
        everything = list(range(len(self.asked)))
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
                facts = {"seconds": self.seconds, "peak_mb": peak_memory(self.model.device), "of": len(self.asked)}
                # the verdicts are still to come: `generate` says when all is complete
                self.folder.finish("running" if state == "complete" else state, message, **facts)

    def result(self, measures: dict[str, Any] | None = None) -> Result:
        """All finished pictures, in order."""
        order = sorted(self.images)
        images = torch.stack([self.images[i] for i in order]) if order else torch.zeros(0, 3, 1, 1)
        labels = torch.tensor([self.asked.labels[i] for i in order], dtype=torch.int64)
        return Result(
            images,
            labels,
            [self.records[i] for i in order],
            self.frames,
            measures or {},
            tables(self.roles, self.settings, self.asked, self.files),
            torch.stack([self.alphas[i] for i in order]) if self.settings.alpha and order else None,
        )

    def _batch(self, number: int, pictures: list[int]) -> Generator[tuple[int, Frame], None, None]:
        seeds = [picture_seed(self.settings.seed, i) for i in pictures]
        batch = self.asked.batch(pictures, seeds)
        field_, ascent, draws = batch_parts(self.roles, self.settings, self.asked, batch)
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
        return (255 * self.place.crop()(canvas[:, None], None, 0.0)[:, 0].detach().cpu().float()).round() / 255  # type: ignore[arg-type]

    @torch.no_grad()
    def _keep(self, pictures: list[int], ascent: Ascent, *, unfinished: bool = False) -> None:
        images = self._seen(ascent.parameterization.image())
        alphas = None if ascent.alpha is None else self._seen(transparency(ascent.alpha))
        records = [self._record(index) for index in pictures]
        if self.asked.labels[pictures[0]] != NO_CLASS:
            spec, shown = self.model.spec, images.to(self.model.device)
            shown = resize(shown, (spec.height, spec.width)) if self.place.of_photo else shown
            logits = torch.cat([self.model.outputs(part).cpu() for part in shown.split(16)])
            for record, own in zip(records, logits.softmax(1), strict=True):
                record["own_probability"] = own[record["label"]].item()
        if unfinished:
            records = [{**record, "unfinished": True, "step": ascent.step} for record in records]
        if self.folder is not None:
            records = self.folder.save_pictures(images, records, alphas)
        if not unfinished:
            self.images.update(zip(pictures, images, strict=True))
            self.alphas.update(zip(pictures, alphas if alphas is not None else (), strict=alphas is not None))
            self.records.update(zip(pictures, records, strict=True))

    def _record(self, index: int) -> dict[str, Any]:
        label = self.asked.labels[index]
        return {
            "index": index,
            "label": None if label == NO_CLASS else label,
            "class": self.asked.name(index, self.model),
            "seed": picture_seed(self.settings.seed, index),
        }

    def _finished_before(self, pictures: list[int]) -> bool:
        """Take a batch that an earlier, stopped run finished from its folder."""
        if self.folder is None:
            return False
        done = {r["index"]: r for r in self.folder.pictures if not r.get("unfinished")}
        if not set(pictures) <= set(done):
            return False
        for index in pictures:
            self.images[index], self.records[index] = self.folder.read_picture(done[index]), done[index]
            if (alpha := self.folder.read_alpha(done[index])) is not None:
                self.alphas[index] = alpha
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


def _numbered(line: dict[str, Any]) -> dict[str, Any]:
    return {**line["stats"], "batch": line["batch"]}
