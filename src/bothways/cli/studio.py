"""The command ``studio``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.show import say

STUDIO_HELP = """
Open a web interface: draw, edit photos, walk to noise and back, and compare runs.

It listens on 127.0.0.1 only, answers only requests with the token of the printed address, makes no requests to other
hosts, and writes every run to a folder of its own. It runs only the Python files that --allow names, and a form opens
only uploads, runs, and the files and folders that --allow names.

[bold]Examples[/bold]

  bothways studio
  bothways studio --runs results --port 8000 --no-open
  bothways studio --allow my.py:build --allow photos/
  bothways studio --allow my.py:build --allow my.py:objective --time-limit 30
"""


@app.command(help=STUDIO_HELP)
def studio(
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.", min=0, max=65535)] = 7860,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="PATH.py:NAME that a form or a run may name, or a file or folder that a form may name; repeatable.",
        ),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Minutes after which a run is stopped.", min=0.01)] = 120,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    from bothways.studio.server import serve

    def on_start(address: str) -> None:
        say(f"Open {address}   (Ctrl-C to stop)")

    serve(runs, port, opened=opened, on_start=on_start, allow=allow or (), minutes=time_limit)
