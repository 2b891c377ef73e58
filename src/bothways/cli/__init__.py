"""The command line: parses, runs a task, shows progress. Exit code 2 for a mistake, 1 for a failure."""

from bothways.cli import (  # each adds its commands to app; --help lists them in this order
    classify,
    curves,
    draw,
    evaluate,
    explain,
    flow,
    lists,
    make,
    measure,
    studio,
)
from bothways.cli.entry import app, main

__all__ = [
    "app",
    "classify",
    "curves",
    "draw",
    "evaluate",
    "explain",
    "flow",
    "lists",
    "main",
    "make",
    "measure",
    "studio",
]
