"""The drawings of a scorecard: a few pictures by each recipe, with judge metrics and a contact sheet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bothways.judging.judges import find_jury
from bothways.judging.references import find_references
from bothways.judging.verdicts import Reference
from bothways.models.adapter import Adapter
from bothways.runs import to_png
from bothways.runs.files import replace_file
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.result import judged
from bothways.tasks.pictures import Result
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from bothways.types import RunError, UserError

SHEETS = "sheets"
LARGE = 128  # side in pixels from which fewer pictures are drawn
DRAWN, DRAWN_LARGE = 50, 4
COLUMNS = 10  # of a contact sheet
# The metrics of each judge in a row.
DISTANCES = ("frechet", "frechet_real", "kernel", "kernel_interval", "kernel_real", "diversity", "diversity_real")
VERDICT_KEYS = ("judge", "hit_rate", "hit_interval", "mean_confidence", *DISTANCES, "gave_gradient")


@dataclass(frozen=True)
class Attempt:
    """A recipe to draw with, with or without target labels. steps: None for those of the recipe."""

    name: str
    moved_by: str
    recipe: str
    conditional: bool
    steps: int | None = None


ATTEMPTS = (
    Attempt("start", "nothing", "dsf", False, steps=0),
    Attempt("dsf-paper", "DSF and variation, as in the paper", "dsf-paper", False),
    Attempt("dsf", "DSF", "dsf", False),
    Attempt("statistics-tv", "channel statistics and variation", "statistics-tv", False),
    Attempt("sampled", "sampled features, statistics and variation", "sampled", False),
    Attempt("pixels", "the class, by free pixels", "pixels", True),
    Attempt("das", "the class, through many views", "das", True),
    Attempt("icons", "the class, statistics and variation", "icons", True),
)


def pictures_per_recipe(model: Adapter) -> int:
    """The default number of pictures per recipe: fewer for large models."""
    return DRAWN_LARGE if min(model.spec.height, model.spec.width) >= LARGE else DRAWN


@dataclass(frozen=True)
class Source:
    """The inputs common to all attempts: about ``n`` pictures by ``model``, compared with real ones of ``data``."""

    model: Adapter
    data: str | Path | None
    n: int
    seed: int

    @cached_property
    def jury(self) -> list[Adapter]:
        """The judges: bundled models of the same classes, and the model itself."""
        return find_jury(self.model, None)

    @cached_property
    def references(self) -> dict[str, Reference]:
        """The features of real pictures for each judge, computed once for all attempts."""
        return find_references(self.jury, self.data)

    def drawing(self, attempt: Attempt) -> Drawing:
        """The drawing of an attempt: unconditional, or of the classes in turn (some of them if more than n)."""
        return self._work(attempt)

    def moved(self, attempt: Attempt, result: Result) -> float:
        """The rms difference of an attempt's pictures to their start."""
        began: Result = perform(self._work(replace(attempt, steps=0)))
        return (result.images - began.images).double().square().mean().sqrt().item()

    def _work(self, attempt: Attempt) -> Drawing:
        settings: dict[str, Any] = {} if attempt.steps is None else {"ascent.steps": attempt.steps}
        settings |= {"data": self.data, "seed": self.seed, "judging.verdicts": False}
        count, classes, n = self.model.spec.count, None, self.n
        if attempt.conditional:
            classes = list(range(count)) if count <= n else [i * count // n for i in range(n)]
            n = max(1, n // max(1, count))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "--steps 0")  # here the start is what is looked at
            drawing = work_of("generate", self.model, classes, n=n, recipe=attempt.recipe, **settings)
        assert isinstance(drawing, Drawing)
        return drawing

    def drawn(self, attempt: Attempt) -> Result:
        """The pictures of an attempt with judge metrics."""
        drawing = self.drawing(attempt)
        result: Result = perform(drawing)
        verdicts = judged(result, drawing.setup, self.jury, self.references)
        return replace(result, measures=result.measures | verdicts)


def start_in_words(result: Result) -> str:
    """The start of the pictures in words."""
    canvas = result.tables["settings"]["canvas"]
    return canvas["start"] + (" and soft noise" if canvas["start_noise"] else "")


def picture_row(name: str, start: str, moved_by: str, result: Result, out: Path | None = None) -> dict[str, Any]:
    """A row of the picture table; with ``out``, the contact sheet is written to ``out/sheets/NAME.png``.

    {"name", "start", "moved_by", "n", "judges": [...], "images": {...}, "seconds", "sheet"}
    """
    judges = [{key: judge[key] for key in VERDICT_KEYS} for judge in result.measures["judges"]]
    row = {"name": name, "start": start, "moved_by": moved_by, "n": len(result), "judges": judges}
    row |= {"images": result.measures["images"], "seconds": result.measures["cost"]["seconds"]}
    if out is not None and len(result):
        sheet = out / SHEETS / f"{name}.png"
        try:
            sheet.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{sheet.parent}: {error.strerror}; earlier work is saved") from error
        replace_file(sheet, to_png(result.grid(min(COLUMNS, len(result)))))
        row["sheet"] = f"{SHEETS}/{sheet.name}"
    return row


def attempt_row(source: Source, attempt: Attempt, out: Path | None) -> dict[str, Any]:
    """The row of an attempt; if the model does not support the recipe, a row with the reason."""
    try:
        result = source.drawn(attempt)
    except (UserError, RunError) as error:
        return {"name": attempt.name, "start": "", "moved_by": attempt.moved_by, "absent": str(error)}
    row = picture_row(attempt.name, start_in_words(result), attempt.moved_by, result, out)
    return {**row, "moved": source.moved(attempt, result)}
