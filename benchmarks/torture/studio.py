"""The studio under abuse, at length: many, slow, broken and hostile clients, and its memory over thousands of requests.

    PYTHONPATH=tests python benchmarks/torture/studio.py [--requests 10000] [--malformed 400] [--gone 2000]

tests/studio/test_abuse.py is its short form. Each line says what was sent and how it was answered; the exit code is 1
where something failed. The figures go to benchmarks/results/torture.jsonl and docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import torch
from servers import Process, started

from bothways.runs import RunFolder
from bothways.studio.jobs import WAITING_AT_MOST
from reliability import record
from rough_clients import Asked, Client, Server, gone, malformed, many, sent, slow, ways_out
from studio_client import Page

SECRET = "a secret that no answer holds"
ASKED: list[Asked] = [
    ("GET", "/config", b""), ("GET", "/picture?run=old&file=images/0000-frog.png", b""), ("GET", "/theme.css", b""),
    ("GET", "/", b""), ("GET", "/report?run=old", b""),
]  # fmt: skip
FOUND: list[dict[str, object]] = []


def say(name: str, sent: str, tried: int, answered: str, good: bool) -> None:
    """Print what was sent, how often, and how it was answered, and keep it for the page."""
    row = {"part": "studio", "kind": "abuse", "name": name, "sent": sent, "tried": tried, "answered": answered}
    print(f"{'' if good else 'FAILED: '}{tried:,} {sent}: {answered}", flush=True)
    FOUND.append({**row, "broken": int(not good)})


def told(statuses: Mapping[Any, int]) -> str:
    """ "200: 990, 503: 10"."""
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items(), key=str))


def entered(process: Process) -> tuple[Server, dict[str, str]]:
    """The server with the cookie that its token is exchanged for."""
    token = parse_qs(urlsplit(process.address).query)["token"][0]
    answer = httpx.get(f"http://127.0.0.1:{process.port}/", params={"token": token})
    cookie = {"Cookie": answer.headers["set-cookie"].split(";")[0]}
    return Server(process.port, cookie), cookie


def steady(process: Process, server: Server, requests: int) -> None:
    """Memory and files while the same is asked thousands of times."""
    asyncio.run(many(server, ASKED, clients=20, each=50))
    before, files, began = process.megabytes, process.files, time.perf_counter()
    found = asyncio.run(many(server, ASKED, clients=20, each=requests // 20))
    per = requests / (time.perf_counter() - began)
    say("steady", "requests by 20 clients", requests, f"{told(found)}; {per:.0f} a second; {before:.0f} MB of memory "
        f"after the first thousand, {process.megabytes:.0f} at the end; open files {files}, {process.files}",
        set(found) == {200} and process.megabytes < before + 25 and process.files < files + 25)  # fmt: skip


def abused(process: Process, server: Server, counts: argparse.Namespace) -> None:
    before, files = process.megabytes, process.files
    asyncio.run(gone(server, ASKED, counts.gone))
    until = time.monotonic() + 120
    while process.files > files + 25 and time.monotonic() < until:  # it has not seen yet that they are gone
        time.sleep(0.5)
    found = asyncio.run(many(server, ASKED, clients=10, each=2))
    say("gone", "clients that leave in the middle", counts.gone, f"the next 20 requests: {told(found)}",
        found == {200: 20})  # fmt: skip
    bad = asyncio.run(sent(server, (malformed(server, n) for n in range(counts.malformed)), 120.0, 400))
    say("malformed", "malformed requests", counts.malformed, told(bad), all(s == "closed" or s < 500 for s in bad))
    found = asyncio.run(many(server, ASKED[:4], 200, 5))
    say("at-once", "requests by 200 clients at once", 1_000, told(found), found == {200: 1_000})

    async def unread() -> dict[int, int]:
        held = await slow(server, ("GET", "/config", b""), 200)
        answered = await many(server, ASKED[:2], clients=20, each=5)
        for one in held:
            one.transport.abort()
        return dict(answered)

    beside = asyncio.run(unread())
    say("unread", "clients that read nothing", 200, f"100 requests beside them: {told(beside)}", beside == {200: 100})
    body = b" " * 9_000_000
    large = asyncio.run(many(server, [("POST", "/gradio_api/queue/join", body)], clients=1, each=1))
    say("large", "form of 9 MB", 1, told(large), large == {413: 1})
    time.sleep(8)  # for what the last connections held
    say("memory", "run of all that this table names", 1, f"{before:.0f} MB of memory before, {process.megabytes:.0f} "
        f"after; open files {files}, {process.files}",
        process.megabytes < before + 60 and process.files < files + 25)  # fmt: skip


def out_of_its_folder(server: Server, folder: Path) -> None:
    routes = ["/picture?run=old&file={}", "/picture?run={}&file=x", "/download?run=old&file={}", "/report?run={}",
              "/gradio_api/file={}", "/gradio_api/file/{}", "/assets/{}", "/static/{}", "/{}"]  # fmt: skip

    async def each() -> tuple[int, list[str]]:
        client, leaked, asked = Client(server), [], 0
        for route in routes:
            for way in (*ways_out(str(folder / "secret.txt")), *ways_out("/etc/passwd"), "../recipe.toml"):
                status, body = await client.ask("GET", route.format(way))
                asked += 1
                if SECRET.encode() in body or b"root:" in body or b"[settings" in body or status >= 500:
                    leaked.append(f"{status} {route} {way}")
        client.close()
        return asked, leaked

    asked, leaked = asyncio.run(each())
    say("ways-out", "paths that lead out of a folder", asked, f"{len(leaked)} let through", leaked == [])
    print(*leaked, sep="\n")


def queued(process: Process, cookie: dict[str, str], runs: Path) -> None:
    """More drawings than may wait; each that was taken ends as a run, and the others are told."""
    with httpx.Client(base_url=f"http://127.0.0.1:{process.port}", headers=cookie, timeout=120) as client:
        page = Page(client, None, runs, None)  # type: ignore[arg-type]
        event = page.event("generate-start")
        values = page.values(event, Model="bundled:cifar10-resnet", Classes=["frog"], Steps=1, Count=1)
        lines = [json.dumps(page.do(event, values, f"queue-{number}")) for number in range(WAITING_AT_MOST + 10)]
        refused = sum("which are the most" in line for line in lines)
        until = time.monotonic() + 400
        while time.monotonic() < until and len(ended := states(runs)) < len(lines) - refused:
            time.sleep(2)
        say("queue", "drawings at once", len(lines), f"{refused} refused, {told(Counter(ended))}",
            0 < refused <= 10 and ended == ["complete"] * (len(lines) - refused))  # fmt: skip


def states(runs: Path) -> list[str]:
    """How the runs ended that have."""
    found = [RunFolder.open(path.parent).status["state"] for path in runs.glob("generate-*/status.json")]
    return [state for state in found if state not in ("running", "preparing")]


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--requests", type=int, default=10_000)
    given.add_argument("--malformed", type=int, default=400)
    given.add_argument("--gone", type=int, default=2_000)
    counts = given.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        folder, runs = Path(kept), Path(kept) / "runs"
        (folder / "secret.txt").write_text(SECRET)
        run = RunFolder.create(runs / "old", {"task": "generate", "settings": {"recipe": "das", "seed": 0}})
        run.save_pictures(torch.rand(1, 3, 4, 4), [{"index": 0, "class": "frog", "seed": 0}])
        run.write_status("complete")
        with started("studio", "--runs", runs, "--no-open") as process:
            server, cookie = entered(process)
            queued(process, cookie, runs)
            steady(process, server, counts.requests)
            abused(process, server, counts)
            out_of_its_folder(server, folder)
            print(f"{process.seconds:.0f} s of processor time in the server")
    record(FOUND)
    sys.exit(any(row["broken"] for row in FOUND))


if __name__ == "__main__":
    main()
