"""The server of the page. It listens on 127.0.0.1 and serves only pictures and reports of runs from disk.

Requests of other pages are rejected by their Host (against DNS rebinding) and Origin headers, and a content security
policy keeps the page from making requests to other hosts.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bothways.studio.jobs import Jobs
from bothways.studio.shelf import Shelf
from bothways.studio.uploads import BYTES_AT_MOST
from bothways.types import UserError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'"
QUIETLY = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_NUM_PORTS": "1"}


def _gradio() -> Any:
    os.environ.update(QUIETLY)  # before the import, at which Gradio reads them
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            'bothways studio needs gradio, which is not installed; type pip install "bothways[studio]"'
        ) from error
    return gradio


def allowed(host: str, origin: str | None) -> bool:
    """Whether a request comes from the page itself. host, origin: headers of the request."""
    name = urlsplit(f"//{host}").hostname
    return name in NAMES and (origin is None or urlsplit(origin).netloc == host)


def build_app(runs: Path, jobs: Jobs) -> Any:
    """The ASGI application. ``jobs`` is closed when it shuts down."""
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

    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if not allowed(request.headers.get("host", ""), request.headers.get("origin")):
            return PlainTextResponse("requests from other pages are not allowed", 403)
        if "file=http" in request.url.path or "/proxy=" in request.url.path:  # Gradio would fetch it from another host
            return PlainTextResponse("fetching from other hosts is not allowed", 403)
        answer = await go_on(request)
        answer.headers.setdefault("Content-Security-Policy", POLICY)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    def refuse(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 404)

    def picture(request: Request) -> Response:
        folder, _, name = request.query_params.get("file", "").partition("/")
        return FileResponse(shelf.picture(request.query_params.get("run", ""), folder, name), media_type="image/png")

    def report(request: Request) -> Response:
        page = shelf.report(request.query_params.getlist("run"))
        return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})

    app.middleware("http")(guard)
    app.exception_handler(UserError)(refuse)
    app.add_route("/picture", picture)
    app.add_route("/report", report)
    css = resources.files("bothways.studio").joinpath("studio.css").read_text(encoding="utf-8")
    return gradio.mount_gradio_app(
        app, build_page(jobs, shelf), path="", server_name=HOST, theme=theme(), css=css, allowed_paths=[],
        max_file_size=BYTES_AT_MOST, run_history=False, footer_links=[], ssr_mode=False, enable_monitoring=False,
        mcp_server=False,
    )  # fmt: skip


def bound(port: int) -> socket.socket:
    """A socket bound to 127.0.0.1. port: 0 for any free one. Raises UserError if the port is taken."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise UserError(f"port {port} cannot be used on {HOST} ({error}); type another, such as --port 7861") from error
    return taken


def serve(runs: Path, port: int, *, opened: bool, on_start: Callable[[str], None]) -> None:
    """Serve the page until interrupted.

    opened: open the page in the browser. on_start: called with the address. Raises UserError if it cannot start.
    """
    _gradio()
    import uvicorn

    # an interrupt is the normal end, not an error
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="bothways-studio-") as kept,
        bound(port) as door,
    ):
        os.environ["GRADIO_TEMP_DIR"] = kept  # uploads are deleted with the server
        app = build_app(runs, Jobs(runs))
        address = f"http://{HOST}:{door.getsockname()[1]}/"
        door.listen()  # early connections wait until the server is up instead of being refused
        on_start(address)
        if opened:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)).run(sockets=[door])
