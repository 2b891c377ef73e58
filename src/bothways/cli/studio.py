"""The command that looks rather than reads: ``studio``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.show import say

STUDIO_HELP = """
A page in the browser: draw, change photos, walk to noise and back, and look at runs side by side.

It is served on this machine alone (127.0.0.1), asks nothing of any other, and keeps every run in a folder of its own.

[bold]Examples[/bold]

  bothways studio
  bothways studio --runs results --port 8000 --no-open
"""


@app.command(help=STUDIO_HELP)
def studio(
    runs: Annotated[Path, typer.Option(help="The folder of run folders, old and new.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 7860,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    from bothways.studio.server import serve

    serve(runs, port, opened=opened, told=lambda address: say(f"Open {address}   (Ctrl-C ends it)"))
