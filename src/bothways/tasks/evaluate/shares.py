"""What a process has counted of some batches of an evaluation, in a share of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pydantic import ConfigDict

from bothways.judging.tally import Counts
from bothways.reading import Checked
from bothways.runs import RunFolder
from bothways.runs.shares import shares_of
from bothways.tasks.measures import Count, Skipped

PARTS = ("labels", "answers", "places")


class Made(NamedTuple):
    """A batch. counts: None where no picture of it can be read. skipped: {unreadable picture: reason}.

    calls: of the network of a flow, where they are counted.
    """

    counts: Counts | None
    skipped: dict[str, str]
    calls: int = 0


class BatchFacts(Checked):
    """A batch of a share. n: its readable pictures. top, nll: their sums (see ``Tally``)."""

    model_config = ConfigDict(extra="forbid")

    number: Count
    n: Count
    top: Count
    nll: float
    skipped: Skipped
    calls: Count = 0


class ShareFacts(Checked):
    """The facts of a share."""

    condition: str
    batches: list[BatchFacts]


def save(share: RunFolder, condition: str, made: Mapping[int, Made]) -> None:
    """Write what was counted of some batches of a condition, {number: batch}."""
    seen = [found.counts for _, found in sorted(made.items(), key=lambda item: item[0]) if found.counts is not None]
    tensors = {name: torch.cat([getattr(counts, name) for counts in seen]) for name in PARTS} if seen else {}
    facts = []
    for number, (counts, skipped, calls) in sorted(made.items(), key=lambda item: item[0]):
        n, top, nll = (len(counts.labels), counts.top, counts.nll) if counts is not None else (0, 0, 0.0)
        facts.append({"number": number, "n": n, "top": top, "nll": nll, "skipped": skipped, "calls": calls})
    if seen:
        tensors["sums"] = torch.stack([counts.sums for counts in seen])
    share.save_state(tensors, {"condition": condition, "batches": facts})


def load(folder: RunFolder) -> dict[str, dict[int, Made]]:
    """What the shares of a run hold: {condition: {number: batch}}."""
    found: dict[str, dict[int, Made]] = {}
    for share in shares_of(folder):
        if (state := share.load_state(ShareFacts)) is None:
            continue
        tensors, facts = state
        of_condition, sums = found.setdefault(facts["condition"], {}), iter(tensors.get("sums", ()))
        first = 0
        for batch in facts["batches"]:
            last, counts = first + batch["n"], None
            if batch["n"]:
                labels, answers, places = (tensors[name][first:last] for name in PARTS)
                counts = Counts(labels, answers, places, batch["top"], batch["nll"], next(sums))
            of_condition[batch["number"]], first = Made(counts, batch["skipped"], batch["calls"]), last
    return found
