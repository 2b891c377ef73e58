"""Who may ask the server, and for what: all requests pass here before Gradio sees them; what is not listed is refused.

A request comes from this page, and from who holds the key; it is for a known address; its body is bounded; and a file
that it names was uploaded to this server. This is plain ASGI, so that it stands before every route, queue and stream.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from stat import S_ISREG
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bothways.studio.files.weights import MB_AT_MOST

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost")
UPLOAD = "/gradio_api/upload"
PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/picture", "/report"}
PAGES |= {"/download", UPLOAD}
PAGES |= {f"/gradio_api/{name}" for name in ("info", "app_id", "startup-events", "upload_progress", "cancel", "reset")}
PAGES |= {"/gradio_api/queue/join", "/gradio_api/queue/data"}
BELOW = ("/assets/", "/static/", "/gradio_api/run/", "/gradio_api/heartbeat/")
FILE = re.compile(r"/gradio_api/file[=/](.*)", re.DOTALL)
BODY_AT_MOST = 8_000_000  # bytes of a form; its largest part is a painted mask of 512 x 512 pixels
UPLOAD_AT_MOST = 1_000_000 * MB_AT_MOST  # bytes of weights; a photo has a limit of its own
MULTIPART = 100_000  # bytes around an uploaded file
BODY_WITHIN = 60.0  # seconds for a body to come
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
# A page and no redirect: a browser counts what a redirect leads to as asked for by where the way began, which may be
# a file or another page, and would then keep the cookie back.
ENTRANCE = '<!doctype html><meta http-equiv="refresh" content="0;url=/"><p><a href="/">Open the studio</a></p>'


class _RefusedError(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Key:
    """What lets a browser in. token: stands in the address; value: of the cookie that the token is exchanged for.

    cookie: its name, with the port, since a browser sends the cookies of one port to all.
    """

    cookie: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    value: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @classmethod
    def of_port(cls, port: int) -> Key:
        return cls(f"bothways-studio-{port}")

    def opens(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self.token.encode())

    def is_held(self, cookies: str) -> bool:
        """Whether the header ``Cookie`` has it."""
        pairs = (part.strip().partition("=") for part in cookies.split(";"))
        values = [value for name, _, value in pairs if name == self.cookie]
        return any(secrets.compare_digest(value.encode(), self.value.encode()) for value in values)


def allowed(host: str, origin: str | None, site: str | None = None) -> bool:
    """Whether a request comes from the page itself. host, origin, site: the headers Host, Origin, Sec-Fetch-Site."""
    name = urlsplit(f"//{host}").hostname
    own = origin is None or urlsplit(origin).netloc == host
    return name in NAMES and own and site in (None, "none", "same-origin")


@dataclass(frozen=True)
class Guard:
    """An ASGI application before another. uploads: the folder that the other keeps uploaded files in."""

    app: Any
    key: Key
    uploads: Path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _dressed(send))
        else:  # the page opens no websocket
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if scope["path"] == "/" and (given := _token(scope)):
                await self._let_in(given, headers, send)
                return
            if not allowed(headers.get("host", ""), headers.get("origin"), headers.get("sec-fetch-site")):
                raise _RefusedError(403, "only this machine's own page may ask")
            if not self.key.is_held(headers.get("cookie", "")):
                raise _RefusedError(403, "open the address that bothways studio printed, with its token")
            self._check_address(scope["path"])
            try:
                async with asyncio.timeout(BODY_WITHIN):
                    body = await _body(scope["path"], headers, receive)
            except TimeoutError:
                raise _RefusedError(408, f"the body took more than {BODY_WITHIN:.0f} seconds") from None
            if body and scope["path"] != UPLOAD:
                body = self._checked_form(body)
                scope = {**scope, "headers": _with_length(scope["headers"], len(body))}
        except _RefusedError as refused:
            await _say(send, refused.status, str(refused))
            return
        await self.app(scope, _replayed(body, receive), send)

    async def _let_in(self, token: str, headers: dict[str, str], send: Send) -> None:
        """Exchange the token for the cookie. Who links here does not matter: only who holds the token knows where."""
        if not (allowed(headers.get("host", ""), headers.get("origin")) and self.key.opens(token)):
            raise _RefusedError(403, "open the address that bothways studio printed, with its token")
        cookie = f"{self.key.cookie}={self.key.value}; HttpOnly; SameSite=Strict; Path=/"
        await _say(send, 200, ENTRANCE, {"content-type": "text/html; charset=utf-8", "set-cookie": cookie})

    def _check_address(self, path: str) -> None:
        if found := FILE.fullmatch(path):
            if not self._is_upload(found[1]):
                raise _RefusedError(403, "only what was uploaded here is given")
        elif path not in PAGES and not (path.startswith(BELOW) and ".." not in path.split("/")):
            raise _RefusedError(404, "there is no such address")

    def _checked_form(self, body: bytes) -> bytes:
        """The body as it was read here, so that it cannot mean another thing to who reads it next."""
        try:
            form = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _RefusedError(400, "this is no form") from error
        if not all(self._is_upload(file) for file in _files(form)):
            raise _RefusedError(403, "a file is taken only as it was uploaded here; choose it again")
        return json.dumps(form).encode()

    def _is_upload(self, name: str) -> bool:
        """Whether a path leads, through no link out, to a plain file in the folder of uploads."""
        try:
            path = Path(name).resolve(strict=True)
            return path.is_relative_to(self.uploads.resolve()) and S_ISREG(path.lstat().st_mode)
        except (OSError, ValueError, RuntimeError):
            return False


def _token(scope: Scope) -> str:
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]


def _files(form: Any) -> Iterator[str]:
    """All that Gradio might take for the path of a file."""
    if isinstance(form, dict):
        if isinstance(form.get("path"), str):
            yield form["path"]
        for part in form.values():
            yield from _files(part)
    elif isinstance(form, list):
        for part in form:
            yield from _files(part)


async def _body(path: str, headers: dict[str, str], receive: Receive) -> bytes:
    """The whole body. Raises _RefusedError as soon as it is too long."""
    most = UPLOAD_AT_MOST + MULTIPART if path == UPLOAD else BODY_AT_MOST
    stated, body, more = headers.get("content-length", ""), bytearray(), True
    while more:
        if len(body) > most or (stated.isdecimal() and int(stated[:20]) > most):
            raise _RefusedError(413, f"{most / 1e6:.0f} MB are the most")
        message = await receive()
        body += message.get("body", b"")
        more = bool(message.get("more_body", False))
    if len(body) > most:
        raise _RefusedError(413, f"{most / 1e6:.0f} MB are the most")
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return parts.pop() if parts else await receive()

    return again


def _with_length(headers: Any, length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"content-length", str(length).encode())]


def _dressed(send: Send) -> Send:
    """Every answer says that no other page may show or read it, and whom it may ask itself."""

    async def dressed(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in ALWAYS]
            named = {name.lower() for name, _ in kept}
            policy = [] if b"content-security-policy" in named else [(b"content-security-policy", POLICY.encode())]
            message = {**message, "headers": [*kept, *ALWAYS.items(), *policy]}
        await send(message)

    return dressed


async def _say(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    """A whole answer of ours."""
    content = text.encode() if text else HTTPStatus(status).phrase.encode()
    own = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", **(headers or {})}
    own["content-length"] = str(len(content))
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(name.encode(), value.encode()) for name, value in own.items()]})
    await send({"type": "http.response.body", "body": content})
