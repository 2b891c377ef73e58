"""The server of the page. It listens on 127.0.0.1, answers who has its key, and serves only pictures and reports of
runs from disk. What may be requested is decided in ``guard``, before Gradio sees it.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from bothways import registry
from bothways.processes.quiet import SETTINGS
from bothways.reading import at_home
from bothways.studio.files.places import open_only
from bothways.studio.guard import NAMES, UPLOAD_AT_MOST, Guard, Key
from bothways.studio.jobs import Jobs
from bothways.studio.shelf import Shelf
from bothways.studio.wire.listening import bound, run
from bothways.types import UserError

HOST = NAMES[0]
GRACE = 3.0  # seconds for open requests when it ends
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MEDIA = {".gif": "image/gif", ".mp4": "video/mp4", ".png": "image/png"}  # of what can be downloaded
SESSIONS_AT_MOST = 24  # open pages, each with its photos; the one that was used longest ago loses them
SECONDS_OF_AN_UPLOAD = 600  # on the disk; what was read of it stays with the page


def _gradio() -> Any:
    os.environ.update(SETTINGS, GRADIO_NUM_PORTS="1")  # whatever was set: before the import, at which Gradio reads them
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            'bothways studio needs gradio, which is not installed; type pip install "bothways[studio]"'
        ) from error
    return gradio


def build_app(runs: Path, jobs: Jobs, key: Key, uploads: Path) -> Guard:
    """The whole application, ASGI; ``jobs`` end with it. uploads: a folder for uploaded files, of this server alone."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    gradio = _gradio()
    from fastapi import FastAPI, Request
    from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

    from bothways.studio.page import build_page, theme

    shelf = Shelf(runs)

    @asynccontextmanager
    async def life(_app: FastAPI) -> Any:
        yield
        jobs.close()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)

    def refuse(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 404)

    def picture(request: Request) -> Response:
        folder, _, name = request.query_params.get("file", "").partition("/")
        return FileResponse(shelf.picture(request.query_params.get("run", ""), folder, name), media_type="image/png")

    def download(request: Request) -> Response:
        path = shelf.download(request.query_params.get("run", ""), request.query_params.get("file", ""))
        return FileResponse(path, media_type=MEDIA[path.suffix], filename=f"{path.parent.name}-{path.name}")

    def report(request: Request) -> Response:
        page = shelf.report(request.query_params.getlist("run"))
        return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})

    app.exception_handler(UserError)(refuse)
    app.add_route("/picture", picture)
    app.add_route("/download", download)
    app.add_route("/report", report)
    css = resources.files("bothways.studio").joinpath("studio.css").read_text(encoding="utf-8")
    page = build_page(jobs, shelf, _weights_folder(uploads))
    page.state_session_capacity = SESSIONS_AT_MOST
    page.delete_cache = (SECONDS_OF_AN_UPLOAD // 2, SECONDS_OF_AN_UPLOAD)
    page.has_launched = True  # without it Gradio asks of no file whether it was uploaded, where it is mounted
    gradio.mount_gradio_app(
        app, page, path="", server_name=HOST, theme=theme(), css=css, allowed_paths=[],
        max_file_size=UPLOAD_AT_MOST, run_history=False, footer_links=[], ssr_mode=False, enable_monitoring=False,
        mcp_server=False,
    )  # fmt: skip
    return Guard(app, key, uploads)


def _weights_folder(uploads: Path) -> Path:
    return uploads.parent / "weights"


def permit(allow: Sequence[str], runs: Path, uploads: Path) -> None:
    """Let the forms name what is in ``allow``, the runs and what is uploaded, and nothing else.

    allow: ``PATH.py:NAME``, or the path of a file or a folder, each. Raises UserError for what is not there.
    """
    code = [given for given in allow if registry.is_address(given)]
    for given in allow:
        path = at_home(registry.address_parts(given)[0] if given in code else given)
        there = path.is_file() if given in code else path.exists() and path.suffix != ".py"
        if not there:
            found = "there is no such file" if given in code or not path.exists() else "it names no function"
            raise UserError(f"--allow {given}: {found}; type PATH.py:NAME, or the path of a file or folder")
    registry.allow_only(code)
    open_only([runs, uploads, _weights_folder(uploads), *(given for given in allow if given not in code)])


def serve(
    runs: Path, port: int, *, opened: bool, on_start: Callable[[str], None], allow: Sequence[str] = (),
    minutes: float = math.inf,
) -> None:  # fmt: skip
    """Serve the page until interrupted. on_start: called with the address, which holds the key.

    allow: as of ``permit``. minutes: the most that a run may take. Raises UserError if it cannot start.
    """
    permit(allow, runs, Path())
    _gradio()
    # an interrupt is how it ends
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="bothways-studio-") as kept,
        bound(HOST, port) as door,
    ):
        (uploads := Path(kept) / "uploads").mkdir()  # they go with the server
        permit(allow, runs, uploads)
        key = Key.of_port(door.getsockname()[1])
        app = build_app(runs, Jobs(runs, minutes, ready=True), key, uploads)
        address = f"http://{HOST}:{door.getsockname()[1]}/?token={key.token}"
        door.listen()  # who comes before the server is up waits, and is not refused
        on_start(address)
        if opened:
            threading.Timer(1.0, webbrowser.open, [_way_in(Path(kept), address)]).start()
        run(app, door, GRACE)


def _way_in(folder: Path, address: str) -> str:
    """A file that leads to the address: what a browser is started with can be read by every account of the machine."""
    file = folder / "open.html"
    file.touch(0o600)
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">', encoding="utf-8")
    return file.as_uri()
