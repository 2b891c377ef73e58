"""The section of a run that changes a photo: that of any task whose pictures judges look at."""

from bothways.tasks.generate.section import calls_of, comparison_table, legend_of, parts_of, tables_of

__all__ = ["calls_of", "comparison_table", "legend_of", "parts_of", "tables_of"]
