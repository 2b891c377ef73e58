"""The report section of the walk of ``demo``."""

from bothways.tasks.demo.result import TenMeasures
from bothways.tasks.diagnose.section import comparison_table, facts_of, section, sentence_of, work

__all__ = ["comparison_table", "facts_of", "schema", "section", "sentence_of", "work"]

schema = TenMeasures
