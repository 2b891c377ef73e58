"""The result of a run that makes pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from bothways import budget
from bothways.brief import Brief
from bothways.report.share.pages import shared_files
from bothways.runs import to_png
from bothways.runs.experiment import Experiment
from bothways.runs.files import dotted
from bothways.tasks.film import Film
from bothways.tasks.measures import Count, Facts, Interval, Measured, Measures
from bothways.tasks.moving import write_gif, write_mp4
from bothways.tasks.work import Grid
from bothways.types import Frame, UserError

SECONDS_BETWEEN_SAVES = 10.0  # of pictures while they are made, which the report of an unfinished run shows
FINISHED = 36  # bytes a pixel: the picture, the one that the result holds, and one while it is judged
SHOWN = 10  # pictures in a table on a terminal
BESIDE = (("feature_distance", 2, "features"), ("pixel_distance", 3, "pixels"))
RECORD = 4000  # bytes of the record and the seeds of a picture


def check_count(
    pictures: int,
    subjects: int,
    size: tuple[int, int],
    out: str | Path | None,
    *,
    alpha: bool = False,
    resizable: bool = True,
) -> None:
    """Raise UserError where finished pictures do not fit into memory, or their files on the disk.

    pictures: all of them; subjects: targets, of which each has as many. size: (height, width). resizable: by --size.
    """
    area, what = size[0] * size[1], f"{pictures:,} picture{'s' * (pictures > 1)} of {size[0]}x{size[1]} pixels"
    each, written = FINISHED * area + RECORD, (4 if alpha else 3) * area

    def most(free: float, one: float) -> str:
        if fewer := int(free / one / subjects):
            return budget.within("--n", fewer, "")
        side = int(min(size) * (free / one / subjects) ** 0.5)
        return budget.within("--size", side if resizable else 0, "take a model of smaller pictures")

    budget.check_memory(what, pictures * each, lambda free: most(free, each))
    if out is not None:
        budget.check_disk(what, pictures * written, out, lambda free: most(free, written))


class Spectrum(Facts):
    """Power by spatial frequency, in cycles per pixel."""

    frequency: list[float]
    power: list[float]


class ImageFacts(Facts):
    """What needs no judge, and the null of some."""

    spectrum_slope: Measured = None
    spectrum_slope_null: Measured = None
    flip_symmetry: Measured = None
    pixel_std: Measured = None
    collapsed: Measured = None
    spectrum: Spectrum | None = None
    spectrum_null: Spectrum | None = None


def own_measures(images: Mapping[str, Any]) -> dict[str, float]:
    """{name: number} of a user's own measures among those of pictures; of several numbers "NAME.KEY" each."""
    own = {name: value for name, value in images.items() if name not in ImageFacts.model_fields}
    return {name: value for name, value in dotted(own).items() if isinstance(value, int | float)}


class JudgeFacts(Facts):
    """A verdict (judging/verdicts.py)."""

    judge: str
    gave_gradient: bool = False
    called: list[int | None] | None = None
    called_names: list[str | None] | None = None
    confidence: list[Measured] | None = None
    wanted_probability: list[Measured] | None = None
    n: Count | None = None
    n_real: Count | None = None
    hit_rate: Measured = None
    hit_interval: Interval | None = None
    mean_confidence: Measured = None
    frechet: Measured = None
    frechet_real: Measured = None
    kernel: Measured = None
    kernel_real: Measured = None
    kernel_interval: Interval | None = None
    diversity: Measured = None
    diversity_real: Measured = None


class OriginFacts(Facts):
    """The nearest photograph of a picture, and those that it was drawn between. index: the number of the picture."""

    index: Count | None = None
    photograph: str
    feature_distance: Measured = None
    photograph_in_pixels: str = ""
    pixel_distance: Measured = None
    share: float = 0.0
    drawn_from: list[str] = Field([])


class PhotographFacts(Facts):
    """The photographs that were drawn from."""

    number: Count = 0
    feature_distance: Measured = None
    pixel_distance: Measured = None


class PictureSet(Facts):
    """A control: what was measured on other pictures."""

    judges: list[JudgeFacts] | None = None
    images: ImageFacts | None = None


class PictureMeasures(Measures):
    """measures.json of a run of pictures. judges: a verdict each (judging/verdicts.py); images: what needs no judge.

    pictures, photographs: the distance of each picture to the photographs that it was drawn from, and what it stands
    beside (judging/origins.py); of drawings without a class from features of photographs.
    """

    judges: list[JudgeFacts]
    images: ImageFacts
    sets: dict[str, PictureSet] = Field({})
    pictures: list[OriginFacts] | None = None
    photographs: PhotographFacts | None = None


@dataclass(frozen=True, repr=False)
class Result(Brief):
    """Pictures with their classes, seeds and measures.

    images: (N,3,H,W) in [0,1], rounded to 8 bits as in the saved files. labels: (N,).
    records: a dict per picture (index, class, seed, own_probability). frames: one per step and batch, without images.
    measures: judge metrics and image statistics. tables: settings, model and versions of the run.
    alphas: (N,1,H,W) in [0,1], the transparency maps of runs with ``alpha``, else None.
    film: the pictures at some steps, of runs with ``gif`` or ``mp4``, else None.
    """

    images: Tensor
    labels: Tensor
    records: list[dict[str, Any]]
    frames: list[Frame] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    alphas: Tensor | None = None
    task: str = "generate"
    film: Film | None = None

    def __len__(self) -> int:
        return len(self.images)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run folder with its report. Raises UserError if one exists and ``overwrite`` is not set."""
        told = {key: value for key, value in self.tables.items() if key not in ("task", "versions")}
        experiment = Experiment.begin(self.task, told, folder, overwrite=overwrite, of=len(self))
        run = experiment.folder
        assert run is not None
        for frame in self.frames:
            run.append_frame(frame)
        run.save_pictures(self.images, self.records, self.alphas)
        for kind in () if self.film is None else self.film.kinds:
            (self.gif if kind == "gif" else self.mp4)(run.path / f"drawing.{kind}")
        cost = self.measures.get("cost", {})
        experiment.prepared(cost.get("stages") or {"drawing": float(cost.get("seconds", 0.0))})
        experiment.complete(self.measures)
        from bothways.report import write_report

        write_report([run.path], run.path / "report.html")
        return run.path

    def gif(self, path: str | Path) -> Path:
        """Write the drawing as it unfolds, as a GIF. Raises UserError for a run without ``gif``."""
        return write_gif(self._film("gif"), Path(path))

    def mp4(self, path: str | Path) -> Path:
        """Write the same as a video. Raises UserError for a run without ``mp4``, or without the extra ``video``."""
        return write_mp4(self._film("mp4"), Path(path))

    def _film(self, kind: str) -> Film:
        if self.film is None:
            raise UserError(f"this drawing kept no steps; draw it with {kind}=True, on the command line --{kind}")
        return self.film

    def grid(self, columns: int | None = None, enlarge_to: int = 96) -> Tensor:
        """All pictures as one, (3,H,W): a row per class if all are equally many; small ones enlarged."""
        classes = len(set(self.labels.tolist())) or 1
        columns = columns or (len(self) // classes if len(self) % classes == 0 and classes > 1 else 10)
        order = sorted(range(len(self)), key=lambda i: (self.labels[i].item(), self.records[i]["index"]))
        factor = max(1, enlarge_to // self.images.shape[-1])
        big = self.images[order].repeat_interleave(factor, -2).repeat_interleave(factor, -1)
        gap = 4
        padded = torch.nn.functional.pad(big, (0, gap, 0, gap), value=1.0)
        missing = -len(padded) % columns
        padded = torch.cat([padded, padded.new_ones(missing, *padded.shape[1:])])
        rows = padded.view(-1, columns, *padded.shape[1:])
        return rows.permute(2, 0, 3, 1, 4).reshape(3, rows.shape[0] * rows.shape[3], columns * rows.shape[4])

    def _repr_png_(self) -> bytes:
        return to_png(self.grid())


def verdict_grid(measures: Mapping[str, Mapping[str, Any]]) -> Grid:
    """A table with a row per run and judge. measures: {run: its measures}."""
    rows = []
    for run, measured in measures.items():
        for verdict in measured["judges"]:
            low, high = verdict["hit_interval"]
            rate = "-" if verdict["hit_rate"] is None else f"{verdict['hit_rate']:.2f} ({low:.2f}-{high:.2f})"
            name = verdict["judge"].removeprefix("bundled:") + "*" * verdict["gave_gradient"]
            frechet, diversity = (
                _beside_real(verdict[key], verdict[f"{key}_real"]) for key in ("frechet", "diversity")
            )
            rows.append((run, name, rate, frechet, _kernel(verdict), diversity))
    caption = "* gave the gradient: proves nothing. In brackets: real pictures."
    return Grid(("run", "judge", "recognised (95 %)", "Frechet", "kernel (95 %)", "diversity"), rows, caption=caption)


def origin_grid(measures: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Grid:
    """A table with a row per picture: its distance to the nearest photograph, and its name."""
    usual = measures["photographs"]
    pixels = "pixel_distance" in measures["pictures"][0]
    columns: tuple[str, ...] = ("picture", "nearest photograph", "distance")
    columns += ("nearest in pixels", "RMS") if pixels else ()
    rows = []
    for record, of in list(zip(records, measures["pictures"], strict=True))[:SHOWN]:
        found = (str(record["index"]), of["photograph"], f"{of['feature_distance']:.2f}")
        rows.append(found + ((of["photograph_in_pixels"], f"{of['pixel_distance']:.3f}") if pixels else ()))
    between = [f"{usual[key]:.{digits}f} in {what}" for key, digits, what in BESIDE if key in usual]
    caption = f"of {usual['number']} photographs; one of them to the nearest other, median: {', '.join(between)}"
    more = len(records) - len(rows)
    return Grid(columns, rows, caption=caption + (f"; {more} more pictures in measures.json" if more else ""))


def _kernel(verdict: Mapping[str, Any]) -> str:
    """The kernel distance with its interval; a run of an older version has none."""
    value, ends = verdict.get("kernel"), verdict.get("kernel_interval")
    if value is None:
        return "-"
    return f"{value:.3g}" + (f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else "")


def _beside_real(value: float | None, real: float | None) -> str:
    forms = (("%.1f", value), ("(%.1f)", real))
    return " ".join(form % number for form, number in forms if number is not None)


def told_of_pictures(result: Result, out: Path | None) -> Iterator[str | Grid]:
    """The table of judge metrics, and the folder of the pictures."""
    if result.measures.get("judges"):
        yield verdict_grid({"" if out is None else out.name: result.measures})
        yield from _absent(result.measures["judges"])
    if result.measures.get("pictures"):
        yield origin_grid(result.measures, result.records)
    if own := own_measures(result.measures.get("images") or {}):
        yield ", ".join(f"{name} {value:.4g}" for name, value in own.items())
    if out is not None:
        yield f"{len(result)} picture{'s' * (len(result) != 1)} in {out}/images"
        if shared := [path.name for path in shared_files(out)]:
            yield f"to share, in {out}: {', '.join(shared)}"


def _absent(verdicts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the judges could not measure, a line for all of whom the same is said."""
    said: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict["absent"]:
            said.setdefault(verdict["absent"].removeprefix(f"{verdict['judge']}: "), []).append(verdict["judge"])
    return (f"{', '.join(judges)}: {text}" for text, judges in said.items())
