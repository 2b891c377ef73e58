"""The command line interface. Exit codes: 2 for invalid input (UserError), 1 for a failed run (RunError)."""

from bothways.cli import (  # imported for their side effect: each registers its commands on app
    lists,
    make,
    servers,
)
from bothways.cli.entry import app, main

__all__ = [
    "app",
    "lists",
    "main",
    "make",
    "servers",
]
