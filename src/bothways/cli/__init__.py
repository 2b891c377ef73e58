"""The command line: parses, calls ``recipe``, shows progress. Exit code 2 for a mistake, 1 for a failure."""

from bothways.cli import (  # each adds its commands to app; --help lists them in this order
    curves,
    draw,
    evaluate,
    explain,
    lists,
    make,
    measure,
    studio,
)
from bothways.cli.entry import app, main, repeated

__all__ = [
    "app",
    "curves",
    "draw",
    "evaluate",
    "explain",
    "lists",
    "main",
    "make",
    "measure",
    "repeated",
    "studio",
]
