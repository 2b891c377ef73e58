"""The sections of pretrain, likelihood and diagnose as one, for a page that does not choose a section by the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bothways.report.parts import Facts, Part, strip_size
from bothways.report.parts import depth_labels as labels_of
from bothways.report.tables import Table
from bothways.tasks.diagnose import section as diagnosis
from bothways.tasks.likelihood import section as bits
from bothways.tasks.pretrain import section as losses

SECTIONS = (losses, bits, diagnosis)

__all__ = ["comparison_table", "depth_labels", "facts_of", "numbers_table", "parts", "strip_size"]


def facts_of(measures: Facts) -> Facts | None:
    """What was measured of a flow, or None for a run that has none."""
    facts = measures.get("flow")
    return facts if isinstance(facts, Mapping) else None


def depth_labels(facts: Facts) -> list[str]:
    return labels_of(facts.get("strip_depths") or [])


def numbers_table(facts: Facts) -> Table:
    tables = [found["numbers"] for each in SECTIONS if (found := each.section({"flow": facts})) is not None]
    rows = [row for table in tables for row in table.rows]
    columns = ["", "Value", "95 % interval", "Pictures", "Measured by"]
    return Table("The flow in numbers", columns, rows, " ".join(table.note for table in tables if table.rows))


def parts(facts: Facts) -> list[Part]:
    found = [each.section({"flow": facts}) for each in SECTIONS]
    return [part for each in found if each is not None for part in each["parts"]]


def comparison_table(runs: Sequence[tuple[str, Facts, Facts]]) -> Table:
    known = [each for each in SECTIONS if any(each.facts_of(measures) is not None for _, measures, _ in runs)]
    return (known or [diagnosis])[0].comparison_table(runs)
