"""Accuracy of a flow classifier for other numbers of steps and depths than in training.

    accuracy(n) at the trained depth, n steps of the walk;   accuracy(d (1 + o)), at most 1, in the trained steps or not

Head and flow are those of the run; each walk computes the features anew. The trained setting belongs to both curves and
is evaluated once. Every point is a condition of an evaluation with its own model.

After PRG, Xue et al. 2024, arXiv 2412.01787, which fine-tunes at one number of steps and infers at others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, final

from bothways.judging.classes import check_target
from bothways.models.classifiers import features_config, flow_in, reading, walked_by
from bothways.models.loader import adapted_classifier
from bothways.representation.features import Features
from bothways.runs.provenance import fingerprint
from bothways.tasks.curves.config import CurvesConfig
from bothways.tasks.curves.result import CurvesMeasures
from bothways.tasks.evaluate.conditions import CLEAN, Condition, ConditionsWork, begun, clean_condition, flow_papers
from bothways.tasks.evaluate.run import percent_of
from bothways.tasks.held_out import to_measure
from bothways.tasks.work import Grid, Where
from bothways.types import UserError

MANY_STEPS = 100  # number of steps above which limit_long applies


@final
class CurvesWork(ConditionsWork):
    schema = CurvesMeasures
    """``finish`` gives measures["curves"] (result.py)."""

    def measures(self) -> dict[str, Any]:
        def scored(row: dict[str, Any]) -> dict[str, Any]:
            score = self.scores[row["condition"]]
            counted = {"calls": score["calls"]} if row["calls"] is None else {}
            return {**row, **counted, "n": score["n"], "nll": score["nll"], **score["top1"]}

        facts = self.facts
        rows = {name: [scored(row) for row in facts[name]] for name in ("steps", "depth")}
        found = {**facts, "trained": scored(facts["trained"]), **rows, "skipped": self.skipped}
        return {"curves": found, "citations": flow_papers(self.model)}

    def result(self, measures: dict[str, Any]) -> dict[str, Any]:
        return measures["curves"]

    def plan(self) -> str:
        return f"{len(self.conditions)} points in {self.steps} batches would be evaluated"

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        if not result["steps"]:
            why = (
                "this classifier does not walk"
                if result["solver"] is None
                else f"{result['solver']} takes its own steps"
            )
            yield f"{why}, so there is no curve over steps"
        rows = [_cells(f"{row['steps']:,} steps", row) for row in result["steps"]]
        rows += [_cells(f"depth {100 * row['offset']:+.4g} %", row) for row in result["depth"]]
        columns = ("point", "accuracy (95 %)", "NLL", "n", "network calls")
        yield Grid(columns, rows, caption="* setting of training")
        if result["skipped"]:
            yield f"{len(result['skipped'])} unreadable pictures are skipped"


def _cells(point: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return point + "*" * row["trained"], percent_of(row), f"{row['nll']:.3f}", f"{row['n']:,}", f"{row['calls']:,}"


def prepare(config: CurvesConfig, where: Where) -> CurvesWork:
    """Prepare a run of ``curves``. Raises UserError for invalid input, before the first batch."""
    model = adapted_classifier(config.run, device=config.device, dtype=config.dtype)
    check_target(model)
    own, run = features_config(model), str(config.run)
    measured = to_measure(model.name, config.data, config.split)
    how = own
    if config.solver is not None or config.tolerance is not None:
        how = features_config(walked_by(model, config.solver, config.tolerance))
    over_steps = _by_steps(how, own, config.steps, "steps" in config.model_fields_set, run)
    over_depth = _by_depth(_walking(how, config.offset_steps, run), own, config, run)

    @cache
    def pictures(limit: int | None) -> tuple[Condition, str]:
        return clean_condition(model, measured.data, measured.split, limit)

    def condition(name: str, how: Features) -> Condition:
        long = how.walks and not how.walk.adaptive and how.walk.steps > MANY_STEPS
        fewer = min(config.limit_long, config.limit or config.limit_long)
        found, _ = pictures(fewer if long else config.limit)
        return replace(found, kind=name, model=reading(model, how), calls=how.calls or 1)

    ways = {name: way for name, way, _ in (*over_depth, *over_steps)}  # the longest walks come last
    ways.setdefault(CLEAN, own)
    conditions = [condition(name, way) for name, way in ways.items()]
    facts = {
        "model": model.name,
        "data": {"address": str(config.data), "split": measured.name, "matched": pictures(config.limit)[1]},
        "kind": own.kind,
        "solver": how.walk.name if own.walks else None,
        "trained": _row(CLEAN, own, own),
        "steps": [_row(name, way, own) for name, way, _ in over_steps],
        "depth": [{**_row(name, way, own), "offset": offset} for name, way, offset in over_depth],
    }
    settings = config.model_dump(exclude={"run"}) | {
        "steps": [way.walk.steps for _, way, _ in over_steps],
        "depth_offsets": [offset for _, _, offset in over_depth],
        "weights": fingerprint(model.module),
    }
    if config.solver is not None:
        facts["trained_solver"] = own.walk.name
    flow = flow_in(model) if any(way.calls is None for way in ways.values()) else None
    return CurvesWork(model, conditions, facts, config.batch, begun("curves", model, settings, where), flow=flow)


# ---- the points ----------------------------------------------------------------------------------------------------

Way = tuple[str, Features, float]  # (name of the condition, features, position on the curve)


def _by_steps(how: Features, own: Features, steps: tuple[int, ...], given: bool, run: str) -> list[Way]:
    """A way for each number of steps, including the trained one. given: whether the user set the steps.

    how: the setting at the trained depth; own: as trained.
    """
    if not (own.walks and own.depth > 0):
        if not given:
            return []
        walk = f"reads {own.kind}" if not own.walks else "is at depth 0"
        raise UserError(f"classifier {run!r} {walk} and does not walk; leave --steps out")
    if how.walk.adaptive:
        if given:
            raise UserError(f"solver {how.walk.name!r} takes its own steps; leave --steps out")
        return []
    every = sorted({own.walk.steps, *steps})
    if every[0] < 1:
        raise UserError(f"--steps {every[0]}: a walk takes 1 step or more")
    return [_way(f"steps {n}", replace(how, walk=replace(how.walk, steps=n)), own, n) for n in every]


def _walking(own: Features, steps: int | None, run: str) -> Features:
    """The trained setting with other steps of the walk, if any are given."""
    if steps is None:
        return own
    if not (own.walks and own.depth > 0):
        raise UserError(f"classifier {run!r} does not walk; leave --offset-steps out")
    if own.walk.adaptive:
        raise UserError(f"solver {own.walk.name!r} takes its own steps; leave --offset-steps out")
    return replace(own, walk=replace(own.walk, steps=steps))


def _by_depth(still: Features, own: Features, config: CurvesConfig, run: str) -> list[Way]:
    """A way for each depth, including the trained one. still: the setting at the trained depth; own: as trained."""
    offsets, names = config.depth_offsets, _depths(own)
    if config.moved != "both":
        names = [name for name in names if name == {"walk": "depth"}.get(config.moved, "activation_depth")]
        if not names:
            raise UserError(f"classifier {run!r} reads {own.kind}; leave --moved {config.moved} out")
    depths = {name: getattr(own, name) for name in names}
    if not any(depths.values()):
        raise UserError(
            f"classifier {run!r} reads raw pixels and has no depth, so there is no curve; type a run of "
            "bothways finetune that walks, or reads activations at a depth"
        )
    every = sorted({0.0, *offsets})
    if not all(math.isfinite(offset) and offset >= -1 for offset in every):
        typed = " ".join(f"{offset:g}" for offset in every)
        raise UserError(f"--depth-offsets {typed}: type shares of its depth such as -0.2, from -1 on")
    moved = [replace(still, **{n: min(1.0, depth * (1 + offset)) for n, depth in depths.items()}) for offset in every]
    return [_way(f"depth {offset:+g}", how, own, offset) for offset, how in zip(every, moved, strict=True)]


def _way(name: str, how: Features, own: Features, place: float) -> Way:
    """A way; the trained setting has the same name on both curves, so that it is evaluated once."""
    return (CLEAN if how == own else name), how, place


def _depths(how: Features) -> list[str]:
    """The names of the depths at which the classifier reads."""
    return ["depth"] * how.walks + ["activation_depth"] * how.reads_activations


def _row(name: str, how: Features, own: Features) -> dict[str, Any]:
    depths = {depth: getattr(how, depth) for depth in _depths(how)}
    steps = how.walk.steps if how.walks and not how.walk.adaptive else None
    return {"condition": name, "steps": steps, **depths, "calls": how.calls, "trained": how == own}
