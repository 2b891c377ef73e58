"""The server: bounded bodies and connections, its token, and the command from its start to its end."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from bothways.serve import gate
from bothways.serve.gate import Gate
from bothways.serve.server import is_local, token_of
from bothways.studio.wire import listening
from bothways.types import UserError
from command import refused
from held_work import wait
from small_flow import write_small_flow

pytest.importorskip("fastapi", reason="fastapi is not here")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not here")
pytest.importorskip("prometheus_client", reason="prometheus_client is not here")

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


# ---- bodies ---------------------------------------------------------------------------------------------------------


async def said(scope: Any, receive: Any, send: Any) -> None:
    """An application that tells the length of the body."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def asked(door: Gate, receive: Callable[[], Any], path: str = "/classify", **headers: str) -> tuple[int, bytes]:
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    named = {"host": "127.0.0.1", **headers}
    scope = {"type": "http", "path": path, "method": "POST"}
    scope |= {"headers": [(name.encode(), value.encode()) for name, value in named.items()]}
    asyncio.run(door(scope, receive, send))
    return told[0]["status"], told[1]["body"]


def parts(*bodies: bytes, ends: bool = True) -> Callable[[], Any]:
    """A body in parts; one that does not end waits for ever after the last."""
    left = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    if ends:
        left[-1]["more_body"] = False

    async def receive() -> Any:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()

    return receive


def test_a_body_has_bounds_of_time_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Gate(said)
    assert asked(door, parts(b"ab", b"c")) == (200, b"3")
    monkeypatch.setattr(gate, "BODY_WITHIN", 0.05)
    status, line = asked(door, parts(b"ab", ends=False))
    assert (status, b"took more than" in line) == (408, True)
    monkeypatch.setattr(gate, "PICTURE_AT_MOST", 5)
    assert asked(door, parts(b"abc", b"def"))[0] == 413  # its length is not stated
    assert asked(door, parts(b"abc"), **{"content-length": "6"})[0] == 413
    assert asked(door, parts(b"abc"), **{"content-length": "9" * 5000})[0] == 413
    assert asked(door, parts(b"abc"), **{"content-length": "-1"}) == (200, b"3")
    assert door.held == 0


def test_all_bodies_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "HELD_AT_MOST", 5)
    told: list[Any] = []

    async def keep(message: Any) -> None:
        told.append(message)

    async def another_meanwhile(scope: Any, receive: Any, send: Any) -> None:
        assert door.held == 3
        await door({**scope}, parts(b"abc"), keep)
        await said(scope, receive, send)

    door = Gate(another_meanwhile)
    assert asked(door, parts(b"abc")) == (200, b"3")
    assert (told[0]["status"], dict(told[0]["headers"])[b"retry-after"]) == (503, b"1")
    assert door.held == 0
    assert asked(Gate(said), parts(b"abc")) == (200, b"3")


def test_who_is_gone_before_the_end_of_the_body_is_counted_and_forgotten() -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    counted: list[tuple[str, str, int]] = []
    door = Gate(said, told=lambda path, method, status, seconds: counted.append((path, method, status)))
    assert asked(door, gone)[0] == 400
    assert counted == [("/classify", "POST", 400)]
    assert door.held == 0


# ---- connections ----------------------------------------------------------------------------------------------------


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The port of an application that is served with connections of ours."""
    with closing(listening.bound("127.0.0.1", 0)) as door:
        door.listen()
        config = uvicorn.Config(app, http=listening.connection_class(), ws="none", lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(60)


async def much(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000000")]})
    for _ in range(100):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def opened(port: int, content: bytes) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=60)
    found.sendall(content)
    return found


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it; waits for that."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_who_sends_nothing_or_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(listening, "HEAD_WITHIN", 0.3)
    monkeypatch.setattr(listening, "TAKEN_WITHIN", 0.3)
    with served(much) as port:
        for content in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Never", b"\r\n"):
            with closing(opened(port, content)) as one:
                assert is_closed(one)  # a socket that stays open ends in a time-out
        with closing(opened(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")) as slow:
            assert wait(lambda: b"ESTABLISHED" not in states(port))  # it takes nothing, and the server lets it go
            assert is_closed(slow)
        content = httpx.get(f"http://127.0.0.1:{port}/", timeout=60).content
        assert len(content) == 100_000_000


def states(port: int) -> bytes:
    """b"ESTABLISHED" where the server holds a connection on this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    held = [row for row in rows if int(row[1].split(":")[1], 16) == port and row[3] == "01"]
    return b"ESTABLISHED" if held else b""


def test_there_are_so_many_connections_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "CONNECTIONS_AT_MOST", 3)
    with served(said) as port:
        idle = [opened(port, b"") for _ in range(3)]
        assert wait(lambda: states(port) != b"")
        with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as fourth:
            assert fourth.recv(1000).startswith(b"HTTP/1.1 503 ")
        for one in idle:
            one.close()
        assert wait(lambda: states(port) == b"")
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=60).status_code == 200


# ---- the token and the command --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_beyond_this_machine_a_token_is_needed(host: str, local: bool) -> None:
    assert is_local(host) == local
    if local:
        assert token_of(None, host) == ""
    else:
        with pytest.raises(UserError, match=r"type --token token\.txt"):
            token_of(None, host)


@pytest.mark.parametrize("content", ["", "short", "two words of sixteen", "x" * 15 + "\n", "é" * 20, "x" * 20_000])
def test_a_token_is_one_line_of_some_length(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token.txt"
    file.write_text(content)
    with pytest.raises(UserError, match=r"token\.txt") as refusal:
        token_of(file, "0.0.0.0")
    assert "\n" not in str(refusal.value)
    assert not content or content not in str(refusal.value)
    file.write_text(f"{'x' * 16}\n")
    assert token_of(file, "0.0.0.0") == "x" * 16


def test_what_cannot_be_served_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (token := tmp_path / "token.txt").write_text("x" * 16)
    assert "--token" in refused(capsys, "serve", "bundled:cifar10-resnet", "--host", "0.0.0.0")
    assert "no bundled model" in refused(capsys, "serve", "bundled:no", "--port", 0)
    assert "no address of this machine" in refused(
        capsys, "serve", "bundled:cifar10-resnet", "--host", "192.0.2.1", "--token", token
    )
    with closing(listening.bound("127.0.0.1", 0)) as door:
        door.listen()
        port = door.getsockname()[1]
        assert "--port 8001" in refused(capsys, "serve", "bundled:cifar10-resnet", "--port", port)
    card = write_small_flow(tmp_path / "flow") / "flow.json"
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    facts = json.loads(card.read_text())
    facts["spec"]["path"] = f"{tmp_path / 'mine.py'}:sine"
    card.write_text(json.dumps(facts))
    line = refused(capsys, "serve", card.parent, "--port", 0)
    assert f"--allow-code {tmp_path / 'mine.py'}" in line
    assert "it ran" in refused(capsys, "serve", card.parent, "--port", 0, "--allow-code", tmp_path / "mine.py")
    assert "none.txt" in refused(capsys, "serve", "bundled:cifar10-resnet", "--token", tmp_path / "none.txt")


@pytest.mark.slow
def test_the_command_serves_and_ends_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text(token := "a-token-of-some-length")
    command = [sys.executable, "-m", "bothways.cli", "serve", TOY, "--port", "0", "--token", tmp_path / "token.txt"]
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(picture, "PNG")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert address
            with httpx.Client(base_url=address[0], timeout=60) as client:
                assert client.post("/classify", content=picture.getvalue()).status_code == 401
                client.headers["Authorization"] = f"Bearer {token}"
                assert len(client.post("/classify", content=picture.getvalue()).json()["answers"]) == 4
                job = client.post("/generate", json={"classes": ["anchor"], "recipe": "das", "steps": 2000}).json()
                assert wait(lambda: client.get(f"/jobs/{job['id']}").json()["step"] > 0)
                assert len(list(scratch.glob("bothways-serve-*/generate-001"))) == 1
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert list(scratch.glob("bothways-serve-*")) == []
