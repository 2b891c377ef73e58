"""The pictures beside a scorecard: a few by each recipe, with what the judges say of them and a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.models.adapter import Adapter
from bothways.runs import to_png
from bothways.runs.files import replace_file
from bothways.tasks.generate.run import generate
from bothways.tasks.pictures import Result
from bothways.types import RunError, UserError

SHEETS = "sheets"
LARGE = 128  # pixels of a side from which drawing is slow
DRAWN, DRAWN_LARGE = 50, 4
COLUMNS = 10  # of a contact sheet
SAID: tuple[str, ...] = ("judge", "hit_rate", "hit_interval", "mean_confidence", "frechet", "frechet_real", "kernel")
SAID += ("diversity", "diversity_real", "gave_gradient")  # of each judge


@dataclass(frozen=True)
class Attempt:
    """One row of drawings: a recipe, with labels or without; steps: None for the recipe's own."""

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


def how_many(model: Adapter) -> int:
    """Pictures of each recipe: few where the model's are large."""
    return DRAWN_LARGE if min(model.spec.height, model.spec.width) >= LARGE else DRAWN


def drawn_by(model: Adapter, attempt: Attempt, data: str | Path, *, n: int, seed: int) -> Result:
    """About n pictures: without labels, or of the classes in turn (some of them where there are more than n)."""
    options: dict[str, Any] = {"data": data, "seed": seed} | ({} if attempt.steps is None else {"steps": attempt.steps})
    if not attempt.conditional:
        return generate(model, None, n, attempt.recipe, **options)
    count = model.spec.count
    classes = list(range(count)) if count <= n else [i * count // n for i in range(n)]
    return generate(model, classes, max(1, n // max(1, count)), attempt.recipe, **options)


def start_of(result: Result) -> str:
    """Where its pictures began, in words."""
    settings = result.tables.get("settings", {})
    soft = " and soft noise" if settings.get("start_noise") else ""
    return f"{settings.get('start', '')}{soft}"


def picture_row(name: str, start: str, moved_by: str, result: Result, out: Path | None = None) -> dict[str, Any]:
    """A row of the picture table; with ``out``, the contact sheet is written to ``out/sheets/NAME.png``.

    {"name", "start", "moved_by", "n", "judges": [...], "images": {...}, "seconds", "sheet"}
    """
    judges = [{key: judge.get(key) for key in SAID} for judge in result.measures.get("judges", [])]
    row = {"name": name, "start": start, "moved_by": moved_by, "n": len(result), "judges": judges}
    row |= {"images": result.measures.get("images", {}), "seconds": result.measures.get("cost", {}).get("seconds")}
    if out is not None and len(result):
        sheet = out / SHEETS / f"{name}.png"
        try:
            sheet.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{sheet.parent}: {error.strerror}; what was saved before is kept") from error
        replace_file(sheet, to_png(result.grid(min(COLUMNS, len(result)))))
        row["sheet"] = f"{SHEETS}/{sheet.name}"
    return row


def attempted(
    model: Adapter, attempt: Attempt, data: str | Path, out: Path | None, *, n: int, seed: int
) -> dict[str, Any]:
    """The row of an attempt; where the recipe cannot be followed with this model, one that says why."""
    try:
        result = drawn_by(model, attempt, data, n=n, seed=seed)
    except (UserError, RunError) as error:
        return {"name": attempt.name, "start": "", "moved_by": attempt.moved_by, "absent": str(error)}
    return picture_row(attempt.name, start_of(result), attempt.moved_by, result, out)
