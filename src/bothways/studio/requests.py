"""What the forms ask for: frozen records that become runs when their turn comes."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from bothways.numerics.draws import picture_seed
from bothways.studio.jobs import Work
from bothways.tasks.generate.config import draw_settings, spoken_changes
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.run import conclude, prepare
from bothways.tasks.photos.run import needs_hole, needs_subject
from bothways.tasks.shelf import work_of
from bothways.types import Frame, UserError


@dataclass(frozen=True)
class Draw:
    """Pictures of classes, of words, or of nothing in particular. recipe: None takes the one that suits.

    data: real pictures, for statistics and for the judges. changes: other settings by name.
    """

    model: str
    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    recipe: str | None = None
    seed: int = 0
    data: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "generate"

    def prepare(self, out: Path) -> Work:
        drawing = prepare(
            self.model,
            list(self.classes) or None,
            self.recipe,
            prompts=list(self.prompts) or None,
            data=self.data,
            out=out,
            seed=self.seed,
            **self.changes,
        )
        return _of_drawing(drawing, out)


@dataclass(frozen=True)
class Change:
    """What is done to a photo (3,H,W) in [0,1]. task: edit, inpaint, style or invert.

    mask: (H,W) of 0 and 1; box: left, top, right, bottom in pixels of the photo. style: (3,H,W).
    """

    task: str
    model: str
    photo: Tensor
    mask: Tensor | None = None
    box: tuple[int, ...] | None = None
    style: Tensor | None = None
    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    seed: int = 0
    data: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "photo"

    def prepare(self, out: Path) -> Work:
        subject = bool(self.classes or self.prompts)
        recipe = "edit" if self.task == "inpaint" and subject else self.task
        asks = self.task in ("edit", "inpaint")  # the other tasks take neither a subject nor a mask
        drawing = prepare(
            self.model,
            list(self.classes) or None if asks else None,
            recipe,
            prompts=list(self.prompts) or None if asks else None,
            photo=self.photo,
            mask=self.mask if asks else None,
            box=self.box if asks else None,
            style=self.style if self.task == "style" else None,
            data=self.data,
            out=out,
            seed=self.seed,
            **self.changes,
        )
        return _of_drawing(drawing, out)


@dataclass(frozen=True)
class Stroll:
    """A photo walked to noise and back. data: pictures among which its nearest are looked for, at most ``limit``."""

    flow: str
    photo: Tensor
    steps: int | None = None  # None: as the command has it
    data: str | None = None
    limit: int | None = None
    kind: ClassVar[str] = "walk"

    def prepare(self, out: Path) -> Work:
        chosen: dict[str, Any] = {"steps": self.steps, "data": self.data or None, "limit": self.limit}
        walking = work_of("walk", self.flow, self.photo, out=out, **chosen)

        def frames() -> Generator[tuple[list[int], Frame], None, None]:
            with closing(walking.run()) as moments:
                for frame in moments:
                    yield [0], frame

        return Work(walking.steps, {0: "on its way"}, frames(), walking.finish)


def check(request: Draw | Change) -> None:
    """What can be refused at once, before the request waits for its turn. Raises UserError."""
    if not request.model.strip():
        raise UserError("no model was chosen; choose one, such as bundled:cifar10-resnet")
    if isinstance(request, Change):
        if request.task == "edit":
            needs_subject(request.classes, request.prompts)
        if request.task == "inpaint":
            needs_hole(request.mask, request.box)
        if request.task == "style" and request.style is None:
            raise UserError("style takes the style of another picture, and none was given; choose one")
        draw_settings(request.task, **request.changes)
    else:
        draw_settings(request.recipe or "icons", **request.changes)


def read_changes(text: str | None, **numbers: Any) -> dict[str, Any]:
    """Lines of NAME=VALUE and the numbers that are given -> settings by name. Raises UserError."""
    pairs = [[part.strip() for part in line.partition("=")] for line in read_lines(text)]
    spoken = spoken_changes(["".join(pair) for pair in pairs])
    if "seed" in spoken:
        raise UserError("the seed has a field of its own; leave it out of the other settings")
    return spoken | {name: int(value) for name, value in numbers.items() if value is not None}


def read_lines(text: str | None) -> tuple[str, ...]:
    """The lines that are not empty."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())


def read_box(text: str | None) -> tuple[int, ...] | None:
    """ "8 8 20 20" -> (8, 8, 20, 20); None for nothing. Raises UserError for what is no four numbers."""
    parts = (text or "").replace(",", " ").split()
    if not parts:
        return None
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise UserError(f"box {text!r}: type left, top, right and bottom in pixels, such as 8 8 20 20")
    return tuple(map(int, parts))


def _of_drawing(drawing: Drawing, out: Path) -> Work:
    seed, batches = drawing.settings.seed, drawing.batches()
    captions = {}
    for number in (number for batch in batches for number in batch):
        name = drawing.asked.name(number, drawing.model)
        captions[number] = f"{name + ', ' if name else ''}seed {picture_seed(seed, number)}"

    def frames() -> Generator[tuple[list[int], Frame], None, None]:
        with closing(drawing.run()) as steps:  # whose folder is whole when this is closed
            for batch, frame in steps:
                yield batches[batch], frame

    return Work(drawing.settings.steps * len(batches), captions, frames(), partial(conclude, drawing))
