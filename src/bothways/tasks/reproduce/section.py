"""The report section of ``reproduce``: measures["reproduction"] (result.py), any part of which may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bothways.report.parts import Facts, between
from bothways.report.sections import Run
from bothways.report.tables import Table, cost_of, count, name, number, time
from bothways.tasks.reproduce.result import ReproduceMeasures

schema = ReproduceMeasures

work = "reproduction"
NOTE = (
    "Ours: the mean over seeds with Student's 95 % interval over them; of a single seed, with the interval of its own "
    "measure, over pictures, if it has one. Reproduced: the whole interval bears the claim out. Not reproduced: all of "
    "it speaks against. Undecided: between the two. Nothing is corrected for the number of claims."
)


def facts_of(measures: Facts) -> Facts:
    return measures.get("reproduction") or {}


def sentence_of(run: Run) -> str:
    """Describe a reproduction: "prg-beta, small form: 2 claims"."""
    facts = facts_of(run.measures)
    settings = run.recipe.get("settings") or {}
    claims = len(facts.get("claims") or [])
    counted = f": {claims} claim{'s' * (claims != 1)} of {facts.get('paper')}" if claims else ""
    return f"{settings.get('recipe')}, {settings.get('form')} form{counted}"


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None before the runs have ended."""
    facts = facts_of(measures)
    if not facts:
        return None
    return {"strips": [], "depths": [], "numbers": claims_table(facts), "parts": []}


def claims_table(facts: Facts) -> Table:
    """A row per claim, ours beside the paper's."""
    rows = [
        [
            name(one.get("claim"), one.get("measure") or ""),
            name(one.get("verdict") or "", one.get("why") or ""),
            number(one.get("ours")),
            between(one.get("low"), one.get("high")),
            name(one.get("claimed") or ""),
            count(one.get("seeds")),
        ]
        for one in facts.get("claims") or []
    ]
    told = [f"{facts.get('title')} ({facts.get('where')})."]
    told += [f"Reading: {facts['reading']}."] if facts.get("reading") else []
    told += [f"Beside the paper's: {facts['unlike']}."] if facts.get("unlike") else []
    columns = ["Claim", "Verdict", "Ours", "95 % interval", "The paper's", "Seeds"]
    return Table("Ours beside the paper's", columns, rows, " ".join([*told, NOTE]))


def tables_of(measures: Facts) -> list[Table]:
    """The table of the single runs."""
    rows = [
        [
            name(f"{run.get('name')}, seed {run.get('seed')}"),
            name(run.get("state") or "", run.get("message") or ""),
            time(run.get("seconds") or None),
            name(run.get("command") or "", run.get("folder") or ""),
        ]
        for run in facts_of(measures).get("runs") or []
    ]
    note = "Each is a run folder, which others with the same run take over; bothways report writes its page."
    return [Table("The runs", ["Run", "State", "Time", "Command"], rows, note)] if rows else []


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per reproduction. runs: (name, measures, status)."""
    rows = [
        [
            name(label),
            count(len(facts_of(measures).get("claims") or [])),
            time(cost_of(measures, status).get("seconds")),
        ]
        for label, measures, status in runs
    ]
    return Table("Side by side", ["Reproduction", "Claims", "Time"], rows)
