"""The section of a run of ``sample``: that of any task whose pictures judges look at."""

from bothways.tasks.generate.section import calls_of, comparison_table, legend_of, parts_of, tables_of

__all__ = ["calls_of", "comparison_table", "legend_of", "parts_of", "tables_of"]
