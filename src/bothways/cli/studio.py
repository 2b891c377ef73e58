"""The command that looks rather than reads: ``studio``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.show import say

STUDIO_HELP = """
A page in the browser: draw, change photos, walk to noise and back, and look at runs side by side.

It is served on this machine alone (127.0.0.1), to who has the address that is printed, and asks nothing of any other.
Every run is kept in a folder of its own. Python files run only where --allow names them.

[bold]Examples[/bold]

  bothways studio
  bothways studio --runs results --port 8000 --no-open
  bothways studio --allow my.py:build --allow my.py:objective --time-limit 30
"""


@app.command(help=STUDIO_HELP)
def studio(
    runs: Annotated[Path, typer.Option(help="The folder of run folders, old and new.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 7860,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH.py:NAME", help="A Python file that a form or a run may name; type it again for more."
        ),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Minutes that a run may take; then it is stopped.", min=0.01)] = 120,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    from bothways.studio.server import serve

    def told(address: str) -> None:
        say(f"Open {address}   (Ctrl-C ends it)")

    serve(runs, port, opened=opened, told=told, allow=allow or (), minutes=time_limit)
