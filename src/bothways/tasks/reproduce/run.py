"""Run a table or figure of a paper: its runs in order, a seed each, then the verdict on each of its claims.

OUT/runs/TASK-DIGEST/   a run, shared by all tables and figures whose settings are the same
OUT/NAME-FORM/          measures.json ("reproduction") and report.html

A run that fails does not end the others; the claims on it are not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from bothways.faults import told
from bothways.models.catalogue import check_device
from bothways.runs import RunFolder
from bothways.runs.experiment import Experiment
from bothways.runs.files import read_json
from bothways.runs.inventory import RECIPE
from bothways.runs.schema import Measures
from bothways.tasks import resume as starts
from bothways.tasks import work as works
from bothways.tasks.reproduce import recipe as recipes
from bothways.tasks.reproduce.claims import combined, interval_at, judged, number_at
from bothways.tasks.reproduce.config import ReproduceConfig
from bothways.tasks.reproduce.last import named
from bothways.tasks.reproduce.listing import listed
from bothways.tasks.reproduce.recipe import Expect, Made, Recipe
from bothways.tasks.reproduce.result import ReproduceMeasures
from bothways.tasks.reproduce.wording import typed, written
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, RunError, UserError

RUNS = "runs"  # the folder of the single runs
SCORECARD = "scorecard"  # a task whose numbers are in a file of their own, below this name


class ReproduceWork(Work):
    """A reproduction, or the list of what there is."""

    schema = ReproduceMeasures


@final
@dataclass
class Listing(ReproduceWork):
    """The list of the tables and figures, or of one. experiment: writes nothing."""

    only: str | None = None
    experiment: Experiment = field(default_factory=Experiment)
    doing = "reading the recipes"

    @property
    def steps(self) -> int:
        return 0

    def frames(self) -> Iterator[Frame]:
        """None."""
        return iter(())

    def measures(self) -> dict[str, Any]:
        return {"recipes": listed(self.only), "citations": []}

    def result(self, measures: dict[str, Any]) -> Any:
        return measures["recipes"]

    def plan(self) -> str:
        return f"{len(recipes.names()) if self.only is None else 1} tables and figures would be listed"

    def summary(self, result: Any, out: Path | None) -> Iterator[str | Grid]:
        rows = [(r["name"], r["form"], r["title"], r["where"], r["needs"], r["takes"]) for r in result]
        yield Grid(("name", "form", "what", "in the paper", "needs", "takes"), rows)

    def page(self, out: Path | None) -> None:
        """None: a list has no report."""


@final
@dataclass
class Reproduction(ReproduceWork):
    """A run of a table or figure. made: its single runs. root: the folder of all; None writes nothing.

    done_now: the folders of runs that were made in this process. failed: {folder: why}.
    """

    config: ReproduceConfig
    recipe: Recipe
    made: list[Made]
    root: Path | None
    overwrite: bool
    experiment: Experiment
    done_now: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    doing = "reproducing"
    done_word = "run"

    @property
    def steps(self) -> int:
        return len(self.made)

    @property
    def done(self) -> int:
        return sum(map(self._is_complete, self.made))

    def frames(self) -> Iterator[Frame]:
        """Make the runs that are not complete, and yield a frame after each."""
        step = self.done
        for one in [one for one in self.made if not self._is_complete(one)]:
            self._make(one)
            step += 1
            yield Frame(step, step / self.steps, None, {})

    def _make(self, one: Made) -> None:
        """Make a run, or go on with it. What fails in it is noted, and does not end the others."""
        out = self._folder(one)
        self.failed.pop(one.folder, None)
        self.done_now.add(one.folder)
        given = json.dumps(one.given, default=str)
        for other in self.made:
            if other.folder in self.failed and other.folder in given:
                self.failed[one.folder] = f"not made: it reads {other.name}, seed {other.seed}, which failed"
                return
        try:
            _, work = self._begun(one, out)
            works.perform(work)
        except Exception as error:  # of any class: an error in one run says nothing of the others
            self.failed[one.folder] = str(error) if isinstance(error, UserError | RunError) else told(error)

    def _begun(self, one: Made, out: Path | None) -> Any:
        there = out is not None and (out / RECIPE).is_file()
        if there and not self.overwrite:
            try:
                return starts.begin(one.task, one.given, Where(out, resume=True), default=False)
            except UserError:  # such as a run that was killed before it could be resumed
                pass
        return starts.begin(one.task, one.given, Where(out, overwrite=there), default=False)

    def _folder(self, one: Made) -> Path | None:
        return None if self.root is None else self.root / RUNS / one.folder

    def _is_complete(self, one: Made) -> bool:
        """Whether its run is complete; with --overwrite, if it was made in this process."""
        out = self._folder(one)
        if out is None or not (out / RECIPE).is_file() or (self.overwrite and one.folder not in self.done_now):
            return False
        return one.folder not in self.failed and RunFolder.open(out).status["state"] == "complete"

    # ---- what came of it -------------------------------------------------------------------------------------------

    def measures(self) -> dict[str, Any]:
        found = {(one.name, one.seed): self._numbers(one) for one in self.made}
        form, papers = self.config.form, list[str]()
        for one in found.values():
            papers += one.get("citations") or []
        facts = {
            "name": self.config.name,
            "title": self.recipe.title,
            "form": form,
            "paper": self.recipe.paper,
            "where": self.recipe.where,
            "reading": self.recipe.reading,
            "unlike": self.recipe.form(form).unlike,
            "device": self.config.device or "cpu",
            "claims": [self._judged(claim, found) for claim in self.recipe.claims(form)],
            "runs": [self._row(one) for one in self.made],
            "failed": len(self.failed),
        }
        return {"reproduction": facts, "citations": list(dict.fromkeys(papers))}

    def _numbers(self, one: Made) -> dict[str, Any]:
        """The measures of a run that is complete; {} of any other."""
        out = self._folder(one)
        if out is None or not self._is_complete(one):
            return {}
        own = read_json(out / f"{SCORECARD}.json", Measures, partly=True) if one.task == SCORECARD else {}
        return {**RunFolder.open(out).measures, **({SCORECARD: own} if own else {})}

    def _judged(self, claim: Expect, found: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
        (name, place), *others = claim.references
        seeds = [one.seed for one in self.made if one.name == name]

        def other(seed: int) -> float | None:
            if not others:
                return None
            run, beside = others[0]
            own = found.get((run, seed), next((m for (n, _), m in found.items() if n == run), {}))
            return number_at(own, beside)

        values = [combined(number_at(found[name, seed], place), other(seed), claim.how) for seed in seeds]
        single = len(seeds) == 1 and claim.how in ("mean", "share")
        alone = interval_at(found[name, seeds[0]], place) if single else None
        unlike = self.recipe.form(self.config.form).unlike
        verdict = judged(values, claim.bounds, claim.how, unlike=unlike, over_pictures=alone)
        value, low, high = (number if math.isfinite(number) else None for number in verdict.ours)
        measure = claim.measure + (
            f" minus {claim.minus}" if claim.minus else f" over {claim.over}" if claim.over else ""
        )
        return {
            "claim": claim.claim, "measure": measure, "claimed": claim.claimed, "paper": claim.paper, "ours": value,
            "low": low, "high": high, "values": values, "seeds": verdict.seeds, "verdict": verdict.verdict,
            "why": verdict.why,
        }  # fmt: skip

    def _row(self, one: Made) -> dict[str, Any]:
        out, state = self._folder(one), "complete" if self._is_complete(one) else "failed"
        seconds = RunFolder.open(out).status["seconds"] if out is not None and state == "complete" else 0.0
        message = self.failed.get(one.folder, "") if state == "failed" else ""
        folder = one.folder if out is None else str(out)
        return {
            "name": one.name, "seed": one.seed, "command": typed(one), "folder": folder, "state": state,
            "message": message, "seconds": float(seconds),
        }  # fmt: skip

    def result(self, measures: dict[str, Any]) -> dict[str, Any]:
        return measures["reproduction"]

    def plan(self) -> str:
        lines = "; ".join(typed(one) for one in self.made)
        return f"{len(self.made)} runs would be made: {lines}"

    def opening(self) -> str:
        takes = self.recipe.form(self.config.form).takes
        left = self.steps - self.done
        return f"{left} of {self.steps} runs are to be made" + (f"; all take {takes}" if takes else "")

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        yield f"{result['title']} ({result['paper']}, {result['where']}), {result['form']} form"
        if result["reading"]:
            yield f"reading: {result['reading']}"
        if result["unlike"]:
            yield f"beside the paper's: {result['unlike']}"
        rows = [
            (
                one["claim"],
                written(one["ours"], one["low"], one["high"]),
                one["claimed"],
                str(one["seeds"]),
                one["verdict"],
            )
            for one in result["claims"]
        ]
        yield Grid(("claim", "ours (95 %)", "the paper's", "seeds", "verdict"), rows)
        failed: dict[str, list[str]] = {}
        for one in result["runs"]:
            if one["message"]:
                failed.setdefault(one["message"], []).append(f"{one['name']}, seed {one['seed']}")
        for message, (first, *others) in failed.items():
            yield f"{first}{f', and {len(others)} more' if others else ''}: {message}"

    def page(self, out: Path | None) -> Path | None:
        folder = self.experiment.folder
        if folder is None:
            return None
        from bothways.report import write_report

        return write_report([folder.path], folder.path / "report.html")

    def check(self, result: dict[str, Any], page: Path | None) -> None:
        if result["failed"]:
            raise RunError(
                f"{result['failed']} of {self.steps} runs failed, as said above; the same command tries them again"
            )


def prepare(config: ReproduceConfig, where: Where) -> ReproduceWork:
    """Prepare a reproduction, or the list. Raises UserError for invalid input of any of its runs, before the first."""
    if config.listed:
        return Listing(config.name)
    config = named(config, Path(where.out or config.folder), resume=where.resume)
    assert config.name is not None
    recipe = recipes.read(config.name)
    if config.device is not None:
        check_device(config.device)
    own = recipe.form(config.form)
    if own.absent:
        raise UserError(f"{config.name} has no {config.form} form: {own.absent}")
    root = None if where.out is None else Path(where.out)
    base = (root or Path(ReproduceConfig.folder)) / RUNS
    made = recipes.made_of(recipe, config.form, config.addresses, config.device, base)
    for name, address in config.addresses.items():
        if "/" in address and ":" not in address and not Path(address).exists():
            raise UserError(f"--with {name}={address}: nothing is there; type a path or an address")
    name = f"{Path(config.name).stem}-{config.form}"
    place = None if root is None else root / name
    there = place is not None and (place / RECIPE).is_file()
    settings = {
        "recipe": config.name,
        "form": config.form,
        "device": config.device or "cpu",
        "inputs": config.addresses,
    }
    experiment = Experiment.begin("reproduce", {"settings": settings}, place, overwrite=there)
    if place is not None:
        starts.remember(place, config, config.model_dump(exclude_defaults=True))
    config = config.model_copy(update={"name": Path(config.name).stem})  # of a file its name alone
    return Reproduction(config, recipe, made, root, where.overwrite, experiment)
