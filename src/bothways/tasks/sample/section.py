"""The report section of ``sample``: that of all tasks whose pictures are judged."""

from bothways.tasks.generate.section import calls_of, comparison_table, legend_of, parts_of, schema, tables_of

__all__ = ["calls_of", "comparison_table", "legend_of", "parts_of", "schema", "tables_of"]
