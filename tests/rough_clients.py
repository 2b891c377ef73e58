"""Clients that a server meets in the open: many at once, slow, gone in the middle, and such that send no request."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Server:
    """Where requests go on loopback. headers: of every request, such as the cookie."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The bytes of a request."""
        told = {"Host": f"127.0.0.1:{self.port}", **self.headers, **headers}
        told |= {"Content-Length": str(len(body))} if body or method == "POST" else {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + body


class Client:
    """One connection that stays open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader: Any = None
        self._writer: Any = None

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """(status, body). Raises OSError or EOFError where the server ends the connection."""
        return await self.send(self._server.request(method, path, body, **headers))

    async def send(self, content: bytes) -> tuple[int, bytes]:
        """The same of bytes that may be no request."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.port, limit=2**20)
        self._writer.write(content)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, named = int(head.split()[1]), head.lower()
        if "transfer-encoding: chunked" in named:
            body = await self._chunks()
        elif "content-length:" in named:
            body = await self._reader.readexactly(int(named.split("content-length:")[1].split()[0]))
        else:
            body = await self._reader.read()
        if "connection: close" in named:
            self.close()
        return status, body

    async def _chunks(self) -> bytes:
        found = b""
        while size := int(await self._reader.readline(), 16):
            found += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return found

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None


Asked = tuple[str, str, bytes]  # method, path, body


async def many(server: Server, asked: Sequence[Asked], clients: int, each: int) -> Counter[int]:
    """{status: how many} of clients that each ask so often, in turn, all at once."""
    found: Counter[int] = Counter()

    async def one(number: int) -> None:
        client = Client(server)
        for place in range(each):
            method, path, body = asked[(number + place) % len(asked)]
            status, _ = await client.ask(method, path, body)
            found[status] += 1
        client.close()

    await asyncio.gather(*map(one, range(clients)))
    return found


async def gone(server: Server, asked: Sequence[Asked], count: int) -> None:
    """Clients that leave: before the end of their request, while it is answered, or before they read a byte."""

    async def one(number: int) -> None:
        draws = random.Random(number)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        content = server.request(*asked[number % len(asked)])
        writer.write(content[: draws.randint(0, len(content))] if number % 3 == 0 else content)
        if number % 3:
            await asyncio.sleep(draws.random() * 0.05)
        writer.transport.abort()

    for first in range(0, count, 100):
        await asyncio.gather(*map(one, range(first, min(count, first + 100))))


async def slow(server: Server, asked: Asked, clients: int) -> list[Any]:
    """Connections that ask and read nothing, until they are closed."""
    found = []
    for _ in range(clients):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.transport.pause_reading()
        writer.write(server.request(*asked))
        found.append(writer)
    return found


def malformed(server: Server, number: int) -> bytes:
    """What is no request, a function of its number."""
    draws = random.Random(number)
    whole = server.request("POST", "/gradio_api/queue/join", b'{"data": []}')
    kinds: list[Callable[[], bytes]] = [
        lambda: draws.randbytes(draws.randint(1, 2000)),
        lambda: b"".join(bytes([byte ^ (draws.random() < 0.03) * draws.randint(1, 255)]) for byte in whole),
        lambda: whole.replace(b"Content-Length: 12", f"Content-Length: {draws.choice(LENGTHS)}".encode()),
        lambda: whole.replace(b"Content-Length: 12", b"Content-Length: 12\r\nContent-Length: 13"),
        lambda: whole.replace(b"Content-Length: 12", b"Transfer-Encoding: chunked\r\nContent-Length: 12"),
        lambda: whole.replace(b"Content-Length: 12", b"Transfer-Encoding: chunked") + draws.randbytes(40),
        lambda: whole.replace(b"Host:", b"X: " + b"a" * draws.choice((1_000, 70_000, 300_000)) + b"\r\nHost:"),
        lambda: whole.replace(b"Host:", b"A: b\r\n" * 3_000 + b"Host:"),
        lambda: whole.replace(b"/gradio_api/queue/join", draws.choice(PLACES)),
        lambda: whole.replace(b"HTTP/1.1", draws.choice((b"HTTP/0.9", b"HTTP/9.9", b"", b"HTTP/1.1\0", b"ICY"))),
        lambda: whole.replace(b"POST", draws.choice((b"", b"P\0ST", b"BREW", b"CONNECT", b"TRACE", b"PRI"))),
        lambda: whole.replace(b'{"data": []}', draws.choice(BODIES)),
        lambda: whole.replace(b"Host:", b"Cookie: " + draws.randbytes(60).hex().encode() + b"\r\nHost:"),
        lambda: whole[: draws.randint(0, len(whole))] + b"\r\n\r\n",
    ]
    return draws.choice(kinds)()


LENGTHS = ("-1", "1e9", "99999999999999999999", "0x12", "", "12, 12", "\u00b2", " 12", "+12")
PLACES = (
    b"*",
    b"/%",
    b"/%zz",
    b"/%00",
    b"//",
    b"http://[",
    b"/\xff\xfe",
    b"/" + b"a" * 60_000,
    b"/?" + b"&" * 9_000,
    b"/?a[" * 99,
)
BODIES = (b"[" * 12, b'{"data": 1e', b"\xff" * 12, b'"' + b"a" * 10, b'{"a": NaN   ', b"null" * 3)


async def sent(server: Server, contents: Iterable[bytes], within: float = 20.0, together: int = 100) -> Counter[Any]:
    """{status, or "closed": how many} of what may be no request, each on a connection of its own, so many at once.

    Who sends half a request is the one that waits: "waits" where nothing came within so many seconds.
    """
    found: Counter[Any] = Counter()

    async def one(content: bytes) -> None:
        client = Client(server)
        try:
            async with asyncio.timeout(within):
                status, _ = await client.send(content)
            found[status] += 1
        except TimeoutError:
            found["waits"] += 1
        except (OSError, EOFError, ValueError, IndexError):
            found["closed"] += 1
        client.close()

    kept = list(contents)
    for first in range(0, len(kept), together):
        await asyncio.gather(*map(one, kept[first : first + together]))
    return found


def ways_out(secret: str) -> list[str]:
    """A file by all the ways in which a path might leave its folder, as a part of an address."""
    plain = secret.lstrip("/")
    ups = ["../" * 12, "..%2f" * 12, "%2e%2e/" * 12, "%2e%2e%2f" * 12, "..%252f" * 12, "....//" * 12, "..\\" * 12,
           "..%5c" * 12, "%c0%ae%c0%ae/" * 12, "..;/" * 12, ".%00./" * 12]  # fmt: skip
    whole = [f"/{plain}", f"//{plain}", f"%2f{plain}", f"/./{plain}", f"file:///{plain}", f"/proc/self/root/{plain}"]
    return [*(up + plain for up in ups), *whole, f"x/../{'../' * 12}{plain}", f"{plain}%00.png", f"/{plain}%00.png"]
