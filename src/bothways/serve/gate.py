"""Who may ask the service, and with how much: every request passes here before a route sees it.

A request carries the token where there is one; on loopback it comes from no page of another site. Its body is read
here, in bounded time and memory. Every refusal is JSON of one line. This is plain ASGI, so that it stands before every
route.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from bothways.studio.guard import allowed

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/health", "/ready")  # without a token: they say no more than that
PICTURES = ("/classify", "/features")
PICTURE_AT_MOST = 20_000_000  # bytes
FORM_AT_MOST = 100_000  # bytes of any other body
HELD_AT_MOST = 400_000_000  # bytes of all bodies that are being read or answered
BODY_WITHIN = 30.0  # seconds for a body to come
POLICY = b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ALWAYS = {
    b"x-content-type-options": b"nosniff", b"x-frame-options": b"DENY", b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store", b"content-security-policy": POLICY, b"cross-origin-resource-policy": b"same-origin",
}  # fmt: skip


class RefusedError(Exception):
    """A request that is not answered. status: of HTTP; the text is one line."""

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.headers = status, headers


@dataclass
class Gate:
    """An ASGI application before another.

    token: what a request has to carry, or "". local: whether the service is bound to loopback. told: called with path,
    method, status and seconds of every request.
    """

    app: Any
    token: str = ""
    local: bool = True
    told: Callable[[str, str, int, float], None] = lambda path, method, status, seconds: None
    held: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._timed(scope, receive, send)
        else:  # no websocket is opened
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = perf_counter(), 499  # of who is gone before there is an answer

        async def dressed(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in ALWAYS]
                message = {**message, "headers": [*kept, *ALWAYS.items()]}
            await send(message)

        try:
            await self._answer(scope, receive, dressed)
        finally:
            self.told(scope["path"], scope["method"], status, perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        held = [0]
        try:
            self._check(scope["path"], headers)
            body = await self._body(scope["path"], headers, receive, held)
            await self.app(scope, _replayed(body, receive), send)
        except RefusedError as refused:
            await say(send, refused.status, str(refused), refused.headers)
        finally:
            self.held -= held[0]

    def _check(self, path: str, headers: dict[str, str]) -> None:
        """Raise RefusedError for who may not ask."""
        if self.local and not allowed(headers.get("host", ""), headers.get("origin"), headers.get("sec-fetch-site")):
            raise RefusedError(403, "only programs and pages of this machine may ask")
        if self.token and path not in OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), self.token.encode()):
                told = "send the token of the service in the header Authorization: Bearer TOKEN"
                raise RefusedError(401, told, **{"www-authenticate": "Bearer"})

    async def _body(self, path: str, headers: dict[str, str], receive: Receive, held: list[int]) -> bytes:
        """The whole body. held: counts its bytes while they are held."""
        most = PICTURE_AT_MOST if path in PICTURES else FORM_AT_MOST
        too_long = RefusedError(413, f"a body of {path} has at most {most:,} bytes", connection="close")
        stated = headers.get("content-length", "")
        if stated.isdecimal() and int(stated[:20]) > most:
            raise too_long
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_WITHIN):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the request ended before its body")
                    part = message.get("body", b"")
                    if len(body) + len(part) > most:
                        raise too_long
                    if self.held + len(part) > HELD_AT_MOST:
                        raise RefusedError(503, "too many bytes are held already; ask again in a second", **AGAIN)
                    body += part
                    held[0] += len(part)
                    self.held += len(part)
                    more = bool(message.get("more_body", False))
        except TimeoutError:
            told = f"the body took more than {BODY_WITHIN:.0f} seconds"
            raise RefusedError(408, told, connection="close") from None
        return bytes(body)


AGAIN = {"retry-after": "1"}


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return parts.pop() if parts else await receive()

    return again


async def say(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    """A whole answer in JSON: {"error": one line}."""
    content = json.dumps({"error": " ".join(text.split())}).encode()
    own = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in own.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
