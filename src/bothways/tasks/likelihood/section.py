"""The report section of ``likelihood``: measures["flow"]["likelihood"], every part of which may be missing.

{"bits_per_dim", "low", "high", "given_noise": {"nats_per_dim", "low", "high"}, "dims", "n", "solver", "steps",
 "divergence", "draws", "calls", "bits": [n]}

low, high: the ends of the 95 % interval over pictures, null where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bothways.report.axes import axes_layout, is_number
from bothways.report.charts import Chart
from bothways.report.parts import Facts, Part, between, walk_cell
from bothways.report.sections import measured as sentence_of
from bothways.report.tables import Table, cost_of, count, name, number, significant, time
from bothways.tasks.likelihood.result import LikelihoodMeasures

__all__ = ["comparison_table", "facts_of", "schema", "section", "sentence_of", "work"]

schema = LikelihoodMeasures

work = "measuring"


def facts_of(measures: Facts) -> Facts | None:
    """The likelihood of a run; None if there is none."""
    facts = (measures.get("flow") or {}).get("likelihood")
    return facts if isinstance(facts, Mapping) else None


def section(measures: Facts) -> dict[str, Any] | None:
    """The section of the report; None for a run without a likelihood."""
    facts = facts_of(measures)
    if facts is None:
        return None
    chart = bits(facts)
    parts = [Part("Likelihood", "The distribution over pictures.", [chart])] if chart is not None else []
    return {"strips": [], "depths": [], "numbers": numbers_table(facts), "parts": parts}


def numbers_table(facts: Facts) -> Table:
    """The table of the mean over pictures."""
    how = walk_cell(facts, f"divergence: {facts['divergence']}" if facts.get("divergence") else "")
    value = [number(facts.get("bits_per_dim")), between(facts.get("low"), facts.get("high"))]
    latent = bool(facts.get("latent"))
    rows = [[name("Bits per dimension" + " of the latent" * latent), *value, count(facts.get("n")), how]]
    note = "Bits per dimension: an upper bound on the code length per value of a lossless code; lower is better."
    if latent:
        note = (
            "Bits per dimension of the latent: -log2 of its density under the flow, over its numbers; it may be "
            "negative, is no code length of the picture, and is comparable for the same autoencoder alone."
        )
    if given := facts.get("given_noise"):
        value = [number(given.get("nats_per_dim")), between(given.get("low"), given.get("high"))]
        rows.append([name("log p(picture | its noise)"), *value, count(facts.get("n")), how])
        note += (
            " log p(picture | its noise): the log-determinant of the walk in nats per dimension, the indicator of the "
            "PRG paper; it rises as the flow learns and is comparable for the same pictures and units."
        )
    return Table("The flow in numbers", ["", "Value", "95 % interval", "Pictures", "Measured by"], rows, note)


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    """A row per flow. runs: (name, measures, status)."""
    rows = []
    for label, measures, status in runs:
        facts = facts_of(measures) or {}
        cells = [number(facts.get("bits_per_dim")), between(facts.get("low"), facts.get("high"))]
        spent = time(cost_of(measures, status).get("seconds"))
        rows.append([name(label), *cells, count(facts.get("n")), walk_cell(facts), spent])
    columns = ["Run", "Bits per dimension", "95 % interval", "Pictures", "Measured by", "Time"]
    return Table("Side by side", columns, rows, "Lower is better; comparable only on the same pictures.")


def bits(facts: Mapping[str, Any]) -> Chart | None:
    """The histogram of bits per dimension over pictures."""
    found = [value for value in facts.get("bits") or [] if is_number(value)]
    if not found:
        return None
    bars = {
        "type": "histogram",
        "x": found,
        "nbinsx": max(8, min(40, round(2 * math.sqrt(len(found))))),
        "hovertemplate": "%{x} bits<br>%{y} pictures<extra></extra>",
    }
    words = (
        f"{len(found):,} pictures, from {significant(min(found))} to {significant(max(found))} bits per dimension; "
        f"half of them under {significant(median(found))}."
    )
    layout = axes_layout("bits per dimension", "pictures", bargap=0.06)
    return Chart("Bits per dimension of each picture", {"data": [bars], "layout": layout}, words)
