"""The commands ``studio`` and ``serve``."""

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
    opened: Annotated[bool, typer.Option("--open/--no-open", metavar="", help="Open the page in the browser.")] = True,
) -> None:
    from bothways.studio.server import serve

    def on_start(address: str) -> None:
        say(f"Open {address}   (Ctrl-C to stop)")

    serve(runs, port, opened=opened, on_start=on_start, allow=allow or (), minutes=time_limit)


SERVE_HELP = """
Serve models over HTTP: classes and features of pictures, and drawings in a queue.

The models are loaded once, and pictures of concurrent requests are answered together. A request names a model of the
service, and no file or Python code of this machine. It listens on 127.0.0.1; on any other address it needs --token.
/docs describes the requests, /metrics counts them, /health and /ready say how it stands.

[bold]Examples[/bold]

  bothways serve bundled:cifar10-resnet
  curl --data-binary @photo.png 'http://127.0.0.1:8000/classify?top=3'
  bothways serve bundled:cifar10-flow runs/finetuned my.py:build --port 8001
  bothways serve bundled:cifar10-resnet --host 0.0.0.0 --token token.txt
"""


@app.command(help=SERVE_HELP)
def serve(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS", help="Addresses of models and flows.")],
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    token: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the token that requests carry, a line.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder that keeps the drawings; else they go with the service."),
    ] = None,
    allow_code: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH.py", help="Python file named by a run or card that may be run; repeatable."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures of one call of a model at most.", min=1, max=4096)] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds that a request waits for its answer.", min=0.1)] = 60,
    time_limit: Annotated[float, typer.Option(help="Minutes after which a drawing is stopped.", min=0.01)] = 10,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision of the network: float32, bf16, float16.")] = "float32",
) -> None:
    from bothways.serve.server import serve as serve_models

    def on_start(address: str) -> None:
        say(f"Serving on {address}   ({address}/docs describes it; Ctrl-C to stop)")

    serve_models(
        addresses, host=host, port=port, token=token, on_start=on_start, runs=runs, minutes=time_limit, batch=batch,
        within=timeout, device=device, dtype=dtype, allow=allow_code or (),
    )  # fmt: skip
