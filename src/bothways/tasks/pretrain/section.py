"""The section of a run of ``pretrain``: what was measured of a flow."""

from bothways.report.flow import comparison_table, facts_of, section
from bothways.report.training import progress_of, sentence_of

__all__ = ["comparison_table", "facts_of", "progress_of", "section", "sentence_of", "work"]

work = "training"
