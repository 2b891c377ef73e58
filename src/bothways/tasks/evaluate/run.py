"""Accuracy and calibration of a classifier on clean and corrupted pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from bothways.data.corrupted import EXTRA, SEVERITIES
from bothways.judging.accuracy import accuracy_of_pictures
from bothways.judging.classes import load_with_classes
from bothways.models.classifiers import features_config, flow_in, walked_by
from bothways.runs.citations import cited
from bothways.tasks.evaluate.conditions import (
    CLEAN,
    Condition,
    ConditionsWork,
    begun,
    clean_condition,
    flow_papers,
    folder_conditions,
    offline_conditions,
)
from bothways.tasks.evaluate.config import EvaluateConfig
from bothways.tasks.evaluate.result import EvaluationMeasures
from bothways.tasks.held_out import to_measure
from bothways.tasks.memory import check_outputs
from bothways.tasks.work import Grid, Where
from bothways.types import VisionModel

OFFLINE = "offline"
OFFLINE_NAME = "made on the fly, NOT CIFAR-10-C"
OFFLINE_CHECKED = (
    "six corruptions of the test pictures at the model's size, with the severities of CIFAR-10-C at 32 pixels"
)
OFFLINE_OTHERS = "at five severities, made of the test pictures at the model's size"
NOISES = ("noise", "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
NAMED = 5  # skipped pictures listed on a terminal


@final
class EvaluateWork(ConditionsWork):
    schema = EvaluationMeasures
    """``finish`` gives measures["evaluation"] (result.py)."""

    def measures(self) -> dict[str, Any]:
        found = {**self.facts, "clean": self.scores[CLEAN], "skipped": self.skipped}
        if walk := self.facts.get("walk"):
            found["walk"] = {**walk, "calls": self.scores[CLEAN]["calls"]}
        corrupted = len(self.conditions) > 1
        if corrupted:
            found["corruptions"] = {**self.facts["corruptions"], **self._corrupted()}
        papers = [*cited("calibration", "corruptions" if corrupted else ""), *flow_papers(self.model)]
        return {"evaluation": found, "citations": papers}

    def result(self, measures: dict[str, Any]) -> dict[str, Any]:
        return measures["evaluation"]

    def _corrupted(self) -> dict[str, Any]:
        """A row per corruption and severity, and their means, with intervals over pictures."""
        asked = [condition for condition in self.conditions if condition.kind != CLEAN]
        counted = [condition for condition in asked if condition.kind not in EXTRA] or asked
        rows = [
            {"corruption": c.kind, "severity": c.severity, **self.scores[c.name]["top1"]}
            | {key: self.scores[c.name][key] for key in ("n", "nll", "ece")}
            for c in asked
        ]

        def mean(of: list[Condition]) -> dict[str, Any]:
            return accuracy_of_pictures(torch.stack([self.hits[c.name] for c in of], 1))

        kinds = {kind: [c for c in asked if c.kind == kind] for kind in dict.fromkeys(c.kind for c in asked)}
        levels = {level: [c for c in counted if c.severity == level] for level in SEVERITIES}
        meant = {c.kind for c in counted}
        silent = [c for c in counted if c.kind not in NOISES]
        apart = {"mean_without_noise": mean(silent)} if 0 < len(silent) < len(counted) else {}
        return {
            "rows": rows,
            "by_corruption": [{"corruption": kind, "in_mean": kind in meant, **mean(of)} for kind, of in kinds.items()],
            "by_severity": [{"severity": level, **mean(of)} for level, of in levels.items()],
            "mean": mean(counted),
            **apart,
        }

    def plan(self) -> str:
        return f"{len(self.conditions)} conditions in {self.steps} batches would be evaluated"

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        clean, skipped = result["clean"], result["skipped"]
        yield accuracy_grid(result)
        trust = f"calibration error {clean['ece']:.3f} (at most {clean['mce']:.3f})"
        yield f"{trust}, NLL {clean['nll']:.3f}, on clean pictures"
        if walk := result.get("walk"):
            yield f"walked by {walk['solver']} in {walk['calls']:g} network calls a picture"
        yield from (f"skipped {name}: {why}" for name, why in list(skipped.items())[:NAMED])
        if skipped:
            yield f"{len(skipped)} pictures skipped"


def accuracy_grid(found: Mapping[str, Any]) -> Grid:
    """The table of accuracies: clean, each corruption, and all corruptions."""
    clean, corrupted = found["clean"], found.get("corruptions")
    shares = [("clean", clean["top1"], clean["n"])]
    if clean["top5"]:
        shares.append(("clean, top 5", clean["top5"], clean["n"]))
    if corrupted:
        shares += [(row["corruption"], row, row["n"]) for row in corrupted["by_corruption"]]
        shares.append(("all corruptions", corrupted["mean"], corrupted["mean"]["n"]))
        if apart := corrupted.get("mean_without_noise"):
            shares.append(("all but noise", apart, apart["n"]))
    rows: list[tuple[str, ...]] = [(name, percent_of(share), f"{n:,}") for name, share, n in shares]
    return Grid(("pictures", "accuracy (95 %)", "n"), rows, f"corrupted: {corrupted['set']}" if corrupted else "")


def percent_of(share: Mapping[str, Any]) -> str:
    """Format an accuracy with its interval: "93.1% (91.2%-94.6%)"."""
    return f"{share['value']:.1%} ({share['low']:.1%}-{share['high']:.1%})"


def _with_walk(config: EvaluateConfig, model: VisionModel) -> tuple[VisionModel, dict[str, Any], nn.Module | None]:
    """The model with the walk that the settings choose, the facts of it, and the flow that walks; None for its own."""
    if config.solver is None and config.tolerance is None:
        return model, {}, None
    made = walked_by(model, config.solver, config.tolerance)
    walk = features_config(made).walk
    return made, {"walk": {"solver": walk.name, "steps": None if walk.adaptive else walk.steps}}, flow_in(made)


def prepare(config: EvaluateConfig, where: Where) -> EvaluateWork:
    """Prepare a run of ``evaluate``. Raises UserError for invalid input, before the first batch."""
    model = load_with_classes(
        config.model, config.spec, weights=config.weights, device=config.device, dtype=config.dtype
    )
    model, walk, flow = _with_walk(config, model)
    measured = to_measure(model.name, config.data, config.split)
    clean, matched = clean_condition(model, measured.data, measured.split, config.limit)
    check_outputs(model, config.batch, clean.count)
    conditions = [clean]
    data = {"address": str(config.data), "split": measured.name, "pictures": clean.count, "matched": matched}
    facts: dict[str, Any] = {"model": model.name, "data": data, **walk}
    if config.corruptions is not None:
        offline, _, kinds = str(config.corruptions).partition(":")
        if offline == OFFLINE:
            more = offline_conditions(clean, config.seed, kinds.split(",") if kinds else ())
            told = {"set": OFFLINE_NAME, "checked": f"{kinds} {OFFLINE_OTHERS}" if kinds else OFFLINE_CHECKED}
        else:
            more, told = folder_conditions(model, config.corruptions, config.limit)
        conditions += more
        facts["corruptions"] = {**told, "address": str(config.corruptions)}
    experiment = begun("evaluate", model, config.model_dump(exclude={"model", "spec"}), where)
    work = EvaluateWork(model, conditions, facts, config.batch, experiment, preprocess=config.preprocess, flow=flow)
    where.processes.tell_of_idle(work.steps, "type a smaller --batch")
    return work
