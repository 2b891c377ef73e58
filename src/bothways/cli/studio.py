"""The command ``studio``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.show import say

STUDIO_HELP = """
Open a web interface: draw, edit photos, walk to noise and back, and compare runs.

It listens on 127.0.0.1 only, makes no requests to other hosts, and writes every run to a folder of its own.

[bold]Examples[/bold]

  bothways studio
  bothways studio --runs results --port 8000 --no-open
"""


@app.command(help=STUDIO_HELP)
def studio(
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.", min=0, max=65535)] = 7860,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    from bothways.studio.server import serve

    serve(runs, port, opened=opened, on_start=lambda address: say(f"Open {address}   (Ctrl-C to stop)"))
