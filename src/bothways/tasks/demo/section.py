"""The section of a run of ``demo``: what was measured of a flow."""

from bothways.report.flow import comparison_table, facts_of, section, sentence_of, work

__all__ = ["comparison_table", "facts_of", "section", "sentence_of", "work"]
