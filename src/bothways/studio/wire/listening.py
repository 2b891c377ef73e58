"""Sockets and connections of the servers: no client holds a connection, memory or a file by doing nothing.

A connection has so long to send the head of a request, and to take what it is sent; more than CONNECTIONS_AT_MOST are
refused. How long a body may take is decided where it is read.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from bothways.types import UserError

CONNECTIONS_AT_MOST = 500
HEAD_WITHIN = 20.0  # seconds from opening a connection, or from the last answer on it
TAKEN_WITHIN = 60.0  # seconds without a byte taken of what is being sent
BETWEEN_LOOKS = 5.0  # seconds
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: 26\r\n\r\ntoo many connections, wait"
)


def bound(host: str, port: int, other: int = 7861) -> socket.socket:
    """A socket bound to an address. port: 0 for any free one; other: the port that the message proposes.

    Raises UserError where there is no such address, or the port is taken.
    """
    nowhere = f"host {host!r} is no address of this machine; type --host 127.0.0.1"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise UserError(nowhere) from error
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
    except (OSError, OverflowError) as error:
        taken.close()
        if getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
            raise UserError(nowhere) from error
        raise UserError(
            f"port {port} cannot be used on {host} ({error}); type another, such as --port {other}"
        ) from error
    return taken


def run(app: Any, door: socket.socket, graceful: float) -> None:
    """Serve an ASGI application until an interrupt or SIGTERM, and then what is open, for at most ``graceful`` seconds.

    The signal is raised again at the end.
    """
    import uvicorn

    config = uvicorn.Config(  # of what is no request it would say a line each, as many as a stranger sends
        app, http=connection_class(), ws="none", log_level="error", timeout_graceful_shutdown=round(graceful)
    )
    uvicorn.Server(config).run(sockets=[door])


def connection_class() -> Any:
    """The class of a connection, of uvicorn's."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        """One that is closed where its client neither sends nor takes anything."""

        _watch: asyncio.TimerHandle | None = None
        _waits = _stuck = 0.0  # since when
        _left = 0  # bytes to be taken at the last look

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS_AT_MOST:
                transport.write(BUSY)
                transport.close()
                return
            self._waits = self._stuck = self.loop.time()
            self._watch = self.loop.call_later(BETWEEN_LOOKS, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._watch is not None:
                self._watch.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._waits = self.loop.time()
            super().on_response_complete()

        def _look(self) -> None:
            now, left = self.loop.time(), self.transport.get_write_buffer_size()
            if left == 0 or left != self._left:
                self._stuck, self._left = now, left
            idle = self.cycle is None or self.cycle.response_complete
            if (idle and now - self._waits > HEAD_WITHIN) or now - self._stuck > TAKEN_WITHIN:
                self.transport.abort()
                return
            self._watch = self.loop.call_later(BETWEEN_LOOKS, self._look)

    return Connection
