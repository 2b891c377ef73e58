"""How a classifier made of a flow holds when it is asked otherwise than it was trained: more steps, another depth.

    accuracy(n) at the trained depth, n steps of the walk;   accuracy(d (1 + o)) in the trained steps, at most 1

The head and the flow are those of the run; what the head reads is made anew by each walk. The trained point belongs to
both curves and is asked once. Every point is a condition of an evaluation, kept when it is done.

After PRG, Xue et al. 2024, arXiv 2412.01787, which fine-tunes at one number of steps and infers at others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bothways.data.splits import held_out
from bothways.models.classifiers import how_of, reading
from bothways.models.loader import load_classifier
from bothways.representation.features import Features
from bothways.runs.provenance import fingerprint
from bothways.tasks.evaluate.run import CLEAN, Condition, Evaluation, clean_condition
from bothways.types import Frame, UserError

STEPS = (2, 5, 10, 20, 50, 100, 1000)
OFFSETS = (-0.2, -0.1, 0.0, 0.1, 0.2)
MANY_STEPS, FEW_PICTURES = 100, 200  # of a walk, beyond which so many pictures are asked at most


def curves(
    run: str | Path, data: str | Path, *, on_frame: Callable[[Frame], None] | None = None, **options: Any
) -> dict[str, Any]:
    """Ask what ``finetune`` wrote in other steps and at other depths -> measures["curves"] (tasks/curves/section.py).

    run: its folder. data: labelled pictures, as for ``evaluate``; the test split where there is one.
    options: steps (of the walk, its depth kept; by default ``STEPS``), depth_offsets (o: the depth times 1 + o, at most
    1, in the trained steps; by default ``OFFSETS``), limit (pictures at most, evenly spaced), limit_long (the same for
    walks of more than 100 steps; 200), batch (100), device, dtype, out (a run folder), overwrite, resume.
    on_frame: called after every batch.
    A classifier that does not walk has no curve over steps. Raises UserError for what cannot be asked.
    """
    evaluation = prepare_curves(run, data, **options)
    with closing(evaluation.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return conclude_curves(evaluation)


def prepare_curves(
    run: str | Path,
    data: str | Path,
    *,
    steps: Sequence[int] | None = None,
    depth_offsets: Sequence[float] | None = None,
    limit: int | None = None,
    limit_long: int = FEW_PICTURES,
    batch: int = 100,
    device: str = "cpu",
    dtype: str = "float32",
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Evaluation:
    """Everything of ``curves`` that can be refused before the first batch."""
    if batch < 1 or limit_long < 1 or (limit is not None and limit < 1):
        raise UserError(f"--batch {batch}, --limit {limit}, --limit-long {limit_long}: type 1 or more")
    model = load_classifier(run, device=device, dtype=dtype)
    own, split = how_of(model), held_out(data)
    over_steps, over_depth = _by_steps(own, steps, str(run)), _by_depth(own, depth_offsets, str(run))

    @cache
    def pictures(limit: int | None) -> tuple[Condition, str]:
        return clean_condition(model, data, split, limit)

    def condition(name: str, how: Features) -> Condition:
        least = limit_long if limit is None else min(limit, limit_long)
        asked, _ = pictures(least if how.walks and how.walk.steps > MANY_STEPS else limit)
        return replace(asked, kind=name, model=reading(model, how))

    ways = {name: how for name, how, _ in (*over_depth, *over_steps)}  # the longest walks are the last
    conditions = [condition(name, how) for name, how in ways.items()]
    facts = {
        "model": model.name,
        "data": {"address": str(data), "split": split, "matched": pictures(limit)[1]},
        "kind": own.kind,
        "solver": own.walk.solver if own.walks else None,
        "trained": _row(CLEAN, own, own),
        "steps": [_row(name, how, own) for name, how, _ in over_steps],
        "depth": [{**_row(name, how, own), "offset": offset} for name, how, offset in over_depth],
    }
    evaluation = Evaluation(model, conditions, facts, batch)
    if out is not None:
        settings = {
            "command": "curves", "data": str(data), "steps": [how.walk.steps for _, how, _ in over_steps],
            "depth_offsets": [offset for _, _, offset in over_depth], "limit": limit, "limit_long": limit_long,
            "batch": batch, "dtype": dtype, "weights": fingerprint(model.module),
        }  # fmt: skip
        evaluation.begin(out, settings, overwrite=overwrite, resume=resume)
    return evaluation


def conclude_curves(evaluation: Evaluation) -> dict[str, Any]:
    """measures["curves"] (its schema: tasks/curves/section.py), kept in the run folder where there is one."""

    def told(row: dict[str, Any]) -> dict[str, Any]:
        score = evaluation.done[row["condition"]]
        return {**row, "n": score["n"], "nll": score["nll"], **score["top1"]}

    facts = evaluation.facts
    rows = {name: [told(row) for row in facts[name]] for name in ("steps", "depth")}
    return evaluation.keep(
        "curves", {**facts, "trained": told(facts["trained"]), **rows, "skipped": evaluation.skipped}
    )


# ---- the points ----------------------------------------------------------------------------------------------------

Way = tuple[str, Features, float]  # the name of a condition, how a picture is read, and where it stands on its curve


def _by_steps(own: Features, steps: Sequence[int] | None, run: str) -> list[Way]:
    """A way a number of steps, the trained one among them."""
    if not (own.walks and own.depth > 0):
        if steps is None:
            return []
        walk = f"reads {own.kind}" if not own.walks else "is at depth 0"
        raise UserError(f"classifier {run!r} {walk} and does not walk; leave --steps out")
    asked = sorted({own.walk.steps, *(STEPS if steps is None else steps)})
    if asked[0] < 1:
        raise UserError(f"--steps {asked[0]}: a walk takes 1 step or more")
    return [_way(f"steps {n}", replace(own, walk=replace(own.walk, steps=n)), own, n) for n in asked]


def _by_depth(own: Features, offsets: Sequence[float] | None, run: str) -> list[Way]:
    """A way a depth, the trained one among them."""
    depths = {name: getattr(own, name) for name in _depths(own)}
    if not any(depths.values()):
        raise UserError(
            f"classifier {run!r} reads the picture itself, at no depth, so there is no curve; type a run of "
            "bothways finetune that walks, or reads activations at a depth"
        )
    asked = sorted({0.0, *(OFFSETS if offsets is None else offsets)})
    if not all(math.isfinite(offset) and offset >= -1 for offset in asked):
        said = " ".join(f"{offset:g}" for offset in asked)
        raise UserError(f"--depth-offsets {said}: type shares of its depth such as -0.2, from -1 on")
    moved = [replace(own, **{n: min(1.0, depth * (1 + offset)) for n, depth in depths.items()}) for offset in asked]
    return [_way(f"depth {offset:+g}", how, own, offset) for offset, how in zip(asked, moved, strict=True)]


def _way(name: str, how: Features, own: Features, place: float) -> Way:
    """The trained point, which both curves have, is asked once and has one name."""
    return (CLEAN if how == own else name), how, place


def _depths(how: Features) -> list[str]:
    """The names of the depths that it reads at."""
    return ["depth"] * how.walks + ["activation_depth"] * how.reads_activations


def _row(name: str, how: Features, own: Features) -> dict[str, Any]:
    depths = {depth: getattr(how, depth) for depth in _depths(how)}
    steps = how.walk.steps if how.walks else None
    return {"condition": name, "steps": steps, **depths, "calls": how.calls, "trained": how == own}
