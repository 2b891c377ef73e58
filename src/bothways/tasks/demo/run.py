"""The demo of the bundled models: drawings of a classifier, a walk of a flow, and a flow classifier.

OUT/das, OUT/icons    run folders of the drawings
OUT/photographs       of one picture of 224 pixels, where the extra imagenet is installed
OUT/walk              of the flow's walk to noise and back
OUT/classifier        of the flow classifier's evaluation, with --data
OUT/report.html       all of them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from bothways.models.cards import card
from bothways.models.libraries.known import LIBRARIES
from bothways.numerics.precision import computes_in
from bothways.runs.experiment import Experiment
from bothways.tasks.demo.config import DemoConfig
from bothways.tasks.demo.result import Demo
from bothways.tasks.demo.walk import PARTS, Ten, prepare_walk
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.pictures import Result, verdict_grid
from bothways.tasks.shelf import work_of
from bothways.tasks.work import Grid, Where, Work, perform
from bothways.types import Frame

MODEL, CLASSIFIER = "bundled:cifar10-resnet", "bundled:cifar10-prg"
# das with fewer steps and copies than in its recipe, so that a hundred pictures take about a minute on two cores
RECIPES: dict[str, dict[str, Any]] = {"das": {"ascent.steps": 40, "ascent.rms": 0.08, "views.copies": 2}, "icons": {}}
# One picture of 224 pixels takes less than a minute of one core
LARGE, LARGE_CLASS, LARGE_JUDGE = "imagenet:efficientnet-lite0", "ostrich", "imagenet:efficientnet-lite2"
LARGE_RECIPE: dict[str, Any] = {"recipe": "photographs", "n": 1}
TESTED = 1000  # test pictures for the flow classifier


@final
@dataclass
class DemoWork(Work):
    """A run of ``demo``: several runs in turn, each with its own folder.

    where: the folder of the demo. drawings: {recipe: drawing}, with that of a network of photographs where one is
    installed. ten: the pictures to walk; None for drawn ones. test: the evaluation of the flow classifier, if there is
    data.
    """

    where: Where
    drawings: dict[str, Drawing]
    ten: Ten | None
    test: Work | None
    experiment: Experiment = field(default_factory=Experiment)
    drawn: dict[str, Result] = field(default_factory=dict)
    trip: dict[str, Any] = field(default_factory=dict)
    tested: dict[str, Any] | None = None
    doing = "drawing and walking"

    @property
    def _prepared(self) -> list[Work]:
        return [*self.drawings.values(), *([] if self.test is None else [self.test])]

    @property
    def steps(self) -> int:
        return sum(work.steps for work in self._prepared) + PARTS

    @property
    def done(self) -> int:
        return sum(work.done for work in self._prepared)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of every run in turn."""
        for recipe, drawing in self.drawings.items():
            yield from drawing.run()
            self.drawn[recipe] = drawing.finish()
        if self.ten is None:
            self.ten = Ten.of_drawing(self.drawn["icons"])
        walk = prepare_walk(self.ten, part_of(self.where, "walk"))
        yield from walk.run()
        (self.trip,) = walk.finish()["flow"]["round_trip"]
        if self.test is not None:
            yield from self.test.run()
            self.tested = self.test.finish()["clean"]

    def measures(self) -> dict[str, Any]:
        assert self.ten is not None
        drawn = {recipe: result.measures for recipe, result in self.drawn.items()}
        stated = {key: value for key, value in card(CLASSIFIER.removeprefix("bundled:")).items() if "accuracy" in key}
        found = Demo(
            drawn=drawn, source=self.ten.source, round_trip=self.trip, named_right=named_right(self.ten),
            tested=self.tested, stated=stated,
        )  # fmt: skip
        return found.model_dump()

    def plan(self) -> str:
        return f"{sum(len(drawing.request) for drawing in self.drawings.values())} pictures would be drawn, ten walked"

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        yield verdict_grid(result["drawn"])
        yield told_of_large(self.drawings)
        off = f"off by {result['round_trip']['rms']:.3f} (RMS, black to white is 1)"
        yield f"ten pictures, {result['source']}, walked to noise and back are {off}"
        yield f"{CLASSIFIER} classifies {result['named_right']} of these ten correctly"
        if (tested := result["tested"]) is not None:
            share, n = tested["top1"], tested["n"]
            bounds = f"({share['low']:.1%} to {share['high']:.1%})"
            yield f"its accuracy is {share['value']:.1%} {bounds} on {n:,} test pictures"
        else:
            stated = result["stated"]
            low, high = stated["accuracy_interval"]
            bounds = f"({low:.1%} to {high:.1%})"
            yield f"its accuracy according to its card is {stated['accuracy']:.1%} {bounds} on {stated['accuracy_on']}"

    def page(self, out: Path | None) -> Path | None:
        if out is None:
            return None
        from bothways.report import write_report

        names = [*self.drawings, "walk", *([] if self.test is None else ["classifier"])]
        return write_report([out / name for name in names], out / "report.html")


def told_of_large(drawings: Mapping[str, Drawing]) -> str:
    """The command that draws the picture of 224 pixels, and what installs its network where there is none."""
    seed = "".join(f" --seed {drawing.config.seed}" for drawing in list(drawings.values())[:1] if drawing.config.seed)
    typed = f"bothways generate {LARGE} --class {LARGE_CLASS} --recipe photographs --n 1{seed}"
    if LARGE_RECIPE["recipe"] in drawings:
        return f"the {LARGE_CLASS} of 224 pixels was drawn by {typed} --judge {LARGE_JUDGE}"
    return f"pictures of 224 pixels: {LIBRARIES['imagenet'].install}, then {typed}"


def part_of(where: Where, name: str) -> Where:
    """Where a run of the demo is written; an earlier one is replaced unless it is resumed."""
    return replace(where, overwrite=where.overwrite or not where.resume).part(name)


def named_right(ten: Ten) -> int:
    """The number of pictures that the bundled flow classifier predicts correctly."""
    found = perform(work_of("predict", CLASSIFIER, ten.images, top=1))
    return sum(one.answers[0].number == label for one, label in zip(found, ten.labels.tolist(), strict=True))


def drawings_of(config: DemoConfig) -> dict[str, Drawing]:
    """The drawings of the demo by their recipes, not written to a folder yet."""
    made: dict[str, Work] = {}
    if LIBRARIES["imagenet"].installed:  # first, so that it is at the top of the page
        given: dict[str, Any] = {"judges": [LARGE_JUDGE], "seed": config.seed, **LARGE_RECIPE}
        made["photographs"] = work_of("generate", LARGE, LARGE_CLASS, **given)
    for recipe, settings in RECIPES.items():
        of_all: dict[str, Any] = {"n": config.n, "recipe": recipe, "seed": config.seed, **settings}
        made[recipe] = work_of("generate", MODEL, list(range(10)), **of_all)
    return {recipe: drawing for recipe, drawing in made.items() if isinstance(drawing, Drawing)}


def prepare(config: DemoConfig, where: Where) -> DemoWork:
    """Prepare a run of ``demo``. Raises UserError for invalid input, before the first picture is drawn."""
    ten = None if config.data is None else Ten.of_data(config.data)
    drawings = drawings_of(config)
    test = None
    if config.data is not None:
        options = part_of(where, "classifier").as_options()
        dtype = "bf16" if computes_in("bf16", "cpu") else "float32"
        test = work_of("evaluate", CLASSIFIER, config.data, limit=TESTED, dtype=dtype, **options)
    for recipe, drawing in drawings.items():
        drawing.begin(part_of(where, recipe))
    return DemoWork(where, drawings, ten, test)
