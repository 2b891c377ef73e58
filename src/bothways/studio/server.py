"""The server of the page: on this machine alone, and of the disk it gives only pictures and reports of runs.

Requests of other pages are refused (by Host, against names that are made to point here, and by Origin), and the page
itself may ask no one else: its content policy says so.
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
    os.environ.update(QUIETLY)  # before it is imported, which is when it asks
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            'bothways studio needs gradio, which is not here; type pip install "bothways[studio]"'
        ) from error
    return gradio


def allowed(host: str, origin: str | None) -> bool:
    """Whether a request comes from the page itself. host, origin: the headers of these names."""
    name = urlsplit(f"//{host}").hostname
    return name in NAMES and (origin is None or urlsplit(origin).netloc == host)


def build_app(runs: Path, jobs: Jobs) -> Any:
    """The whole application, ASGI; ``jobs`` end with it."""
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
            return PlainTextResponse("only this machine's own page may ask", 403)
        if "file=http" in request.url.path or "/proxy=" in request.url.path:  # Gradio would fetch it from elsewhere
            return PlainTextResponse("nothing is fetched from elsewhere", 403)
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
    """A socket of this machine alone; port 0 takes a free one. Raises UserError where the port is taken."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise UserError(f"port {port} cannot be used on {HOST} ({error}); type another, such as --port 7861") from error
    return taken


def serve(runs: Path, port: int, *, opened: bool, told: Callable[[str], None]) -> None:
    """Serve the page until an interrupt. told: is given the address. Raises UserError where it cannot begin."""
    _gradio()
    import uvicorn

    # an interrupt is how it ends
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="bothways-studio-") as kept,
        bound(port) as door,
    ):
        os.environ["GRADIO_TEMP_DIR"] = kept  # uploads go with the server
        app = build_app(runs, Jobs(runs))
        address = f"http://{HOST}:{door.getsockname()[1]}/"
        door.listen()  # who comes before the server is up waits, and is not refused
        told(address)
        if opened:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)).run(sockets=[door])
