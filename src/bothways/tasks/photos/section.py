"""The report section of the tasks on a photo: that of all tasks whose pictures are judged."""

from bothways.tasks.generate.section import (
    calls_of,
    chances_of,
    comparison_table,
    legend_of,
    parts_of,
    schema,
    tables_of,
)

__all__ = ["calls_of", "chances_of", "comparison_table", "legend_of", "parts_of", "schema", "tables_of"]
