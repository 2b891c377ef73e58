"""The section of a run of ``demo``: what was measured of a flow."""

from bothways.tasks.diagnose.section import comparison_table, facts_of, section, sentence_of, work

__all__ = ["comparison_table", "facts_of", "section", "sentence_of", "work"]
