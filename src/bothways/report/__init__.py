"""Run folders -> one self-contained HTML page."""

from bothways.report.page import render, write_report

__all__ = ["render", "write_report"]
