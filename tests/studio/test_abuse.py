"""The studio on a port, under what a server meets in the open. benchmarks/torture/studio.py does the same at length."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from bothways import registry
from bothways.runs import RunFolder
from bothways.studio import guard
from bothways.studio.files.places import open_only
from bothways.studio.guard import Guard, Key
from bothways.studio.jobs import ENDED, WAITING_AT_MOST, Jobs
from bothways.studio.server import build_app, permit
from bothways.studio.wire import listening
from held_work import wait
from rough_clients import Asked, Client, Server, gone, malformed, many, sent, slow, ways_out
from studio_client import Page

pytest.importorskip("gradio", reason="gradio is not here")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not here")

SECRET = "a secret that no answer holds"
MARKED = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'><svg onload=alert(3)>"


@contextmanager
def live(folder: Path) -> Iterator[tuple[Server, Page]]:
    """The studio of ``folder/runs`` on a port, in a thread, and a page of it."""
    (uploads := folder / "uploads").mkdir()
    permit((), folder / "runs", uploads)
    with closing(listening.bound("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        key, jobs = Key.of_port(port), Jobs(folder / "runs")

        async def build() -> Guard:
            return build_app(folder / "runs", jobs, key, uploads)

        app = asyncio.run(build())
        config = uvicorn.Config(app, http=listening.connection_class(), ws="none", log_level="critical")
        server = uvicorn.Server(config)
        door.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        cookie = {"Cookie": f"{key.cookie}={key.value}"}
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=cookie, timeout=120) as client:
                yield Server(port, cookie), Page(client, key, uploads, jobs)
        finally:
            server.should_exit = True
            thread.join(120)
            registry.allow_only(None)
            open_only(None)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Page]]:
    folder = tmp_path_factory.mktemp("abused")
    (folder / "secret.txt").write_text(SECRET)
    run = RunFolder.create(folder / "runs" / "old", {"task": "generate", "settings": {"recipe": "das", "seed": 0}})
    run.save_pictures(torch.rand(1, 3, 4, 4), [{"index": 0, "class": "frog", "seed": 0}])
    run.write_status("complete")
    with live(folder) as found:
        yield found


ASKED: list[Asked] = [
    ("GET", "/config", b""), ("GET", "/picture?run=old&file=images/0000-frog.png", b""), ("GET", "/theme.css", b""),
    ("GET", "/report?run=old", b""),
]  # fmt: skip


def well(server: Server) -> None:
    """It answers as ever."""
    assert asyncio.run(many(server, ASKED, clients=4, each=2)) == {200: 8}


def test_two_hundred_clients_at_once_are_all_answered(studio: tuple[Server, Page]) -> None:
    server, _ = studio
    assert asyncio.run(many(server, ASKED[:3], clients=200, each=1)) == {200: 200}


def test_who_leaves_in_the_middle_leaves_nothing_behind(studio: tuple[Server, Page]) -> None:
    server, page = studio
    event = page.event("generate-start")
    form = json.dumps(page.form(event, page.values(event, Model="no:such"), "leaving")).encode()
    asked = [
        *ASKED,
        ("POST", "/gradio_api/queue/join", form),
        ("GET", "/gradio_api/queue/data?session_hash=leaving", b""),
    ]
    asyncio.run(gone(server, asked, 100))
    well(server)
    assert page.jobs.all == []


def test_what_is_no_request_is_refused_and_nothing_falls(studio: tuple[Server, Page], monkeypatch: Any) -> None:
    server, _ = studio
    monkeypatch.setattr(listening, "BETWEEN_LOOKS", 0.2)
    monkeypatch.setattr(listening, "HEAD_WITHIN", 1.0)
    monkeypatch.setattr(guard, "BODY_WITHIN", 1.0)
    found = asyncio.run(sent(server, (malformed(server, number) for number in range(100))))
    assert sum(found.values()) == 100
    assert found["waits"] == 0
    assert not [status for status in found if isinstance(status, int) and status >= 500]
    well(server)


def test_who_reads_nothing_holds_up_no_one(studio: tuple[Server, Page], monkeypatch: Any) -> None:
    server, _ = studio
    monkeypatch.setattr(listening, "BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(listening, "TAKEN_WITHIN", 0.5)

    async def both() -> None:
        held = await slow(server, ("GET", "/config", b""), 30)
        assert await many(server, ASKED[:2], clients=10, each=2) == {200: 20}
        for one in held:
            one.transport.abort()

    asyncio.run(both())
    well(server)


def test_who_sends_a_body_slowly_is_told(studio: tuple[Server, Page], monkeypatch: Any) -> None:
    server, _ = studio
    monkeypatch.setattr(guard, "BODY_WITHIN", 0.2)

    async def half() -> tuple[int, bytes]:
        client, whole = Client(server), server.request("POST", "/gradio_api/queue/join", b'{"data": []}')
        try:
            return await client.send(whole[:-3])
        finally:
            client.close()

    status, line = asyncio.run(half())
    assert (status, b"took more than" in line) == (408, True)


@pytest.mark.parametrize(
    "headers", [{"Host": "elsewhere.example"}, {"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_other_pages_are_refused_on_every_address(studio: tuple[Server, Page], headers: dict[str, str]) -> None:
    server, page = studio
    strange = Server(server.port, {**server.headers, **headers})
    asked = [("GET", path, b"") for path in sorted(guard.PAGES)] + [
        ("POST", path, b"{}") for path in sorted(guard.PAGES)
    ]
    asked += [("POST", f"{below}x", b"{}") for below in guard.BELOW]
    assert asyncio.run(many(strange, asked, clients=1, each=len(asked))) == {403: len(asked)}
    assert page.jobs.all == []


def test_no_file_route_leaves_its_folder(studio: tuple[Server, Page]) -> None:
    server, page = studio
    secret = str(page.uploads.parent / "secret.txt")
    inside = str(page.uploads.parent / "runs" / "old" / "recipe.toml")
    routes = ["/picture?run={}&file=images/0000-frog.png", "/picture?run=old&file={}", "/report?run={}",
              "/picture?run=old&file=images/{}", "/download?run=old&file={}", "/download?run={}&file=sheet.png",
              "/gradio_api/file={}", "/gradio_api/file/{}", "/assets/{}", "/static/{}", "/{}"]  # fmt: skip

    async def each() -> list[str]:
        client, leaked = Client(server), []
        for route in routes:
            for way in (*ways_out(secret), inside, f"../{inside}", "../recipe.toml", "..%2frecipe.toml", "/etc/passwd"):
                status, body = await client.ask("GET", route.format(way.replace(" ", "%20")))
                if SECRET.encode() in body or b"root:" in body or b"[settings" in body or status >= 500:
                    leaked.append(f"{status} {route} {way}")
        client.close()
        return leaked

    assert asyncio.run(each()) == []


def test_markup_in_every_field_comes_back_as_text(studio: tuple[Server, Page]) -> None:
    _, page = studio
    fields = 0
    for name in ("generate-start", "photo-start", "walk-start", "explain-start", "predict-start"):
        event = page.event(name)
        by_number = {one["id"]: one["props"] for one in page.config["components"]}
        for place, number in enumerate(event["inputs"]):
            values = page.values(event)
            if not isinstance(values[place], str | None) or by_number[number].get("choices"):
                continue
            values[place] = MARKED
            told = json.dumps(page.do(event, values, f"markup-{name}-{place}"))
            fields += 1
            for tag in ("<img src=x", "<script>alert", "<svg onload"):
                assert tag not in told.replace("\\u003c", "<"), (name, by_number[number].get("label"))
    assert fields > 10
    for job in page.jobs.all:
        job.stop()


def test_the_queue_has_an_end_and_nothing_that_was_taken_is_lost(studio: tuple[Server, Page]) -> None:
    server, page = studio
    event = page.event("generate-start")
    values = page.values(event, Model="bundled:cifar10-resnet", Steps=300)  # none ends before the last is sent
    before = len([job for job in page.jobs.all if job.active])
    told = [json.dumps(page.do(event, values, f"queue-{number}")) for number in range(WAITING_AT_MOST + 5 - before)]
    refused = [line for line in told if "which are the most" in line]
    taken = [job for job in page.jobs.all if job.active]
    assert len(taken) <= WAITING_AT_MOST
    assert len(refused) >= 4
    for job in taken:
        job.stop()
    assert wait(lambda: all(job.state in ENDED for job in taken), 120)
    for job in taken:
        assert not job.folder.exists() or RunFolder.open(job.folder).status["state"] == "stopped"
    well(server)
