"""The section of a run of ``walk``: the states on the way, and how far from itself the picture ends."""

from bothways.report.flow import comparison_table, facts_of, section
from bothways.report.sections import Run

__all__ = ["comparison_table", "facts_of", "section", "sentence_of", "work"]

work = "walking"


def sentence_of(run: Run) -> str:
    """What was walked by which flow."""
    return f"A picture walked to noise and back with {run.model or 'a flow'}"
