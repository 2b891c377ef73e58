"""The command line: parses, runs a task, shows progress. Exit code 2 for a mistake, 1 for a failure."""

from bothways.cli import (  # each adds its commands to app; --help lists them in this order
    lists,
    make,
    studio,
)
from bothways.cli.entry import app, main

__all__ = [
    "app",
    "lists",
    "main",
    "make",
    "studio",
]
