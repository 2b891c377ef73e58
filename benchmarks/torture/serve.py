"""bothways serve under load: requests a second, latency beside the bare call, memory, and what a full queue says.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python benchmarks/torture/serve.py [--model ADDRESS] [--requests 10000]

The bare call is the model on a batch of the size that the service may join, in this process, with nothing around it;
its time a picture times the number of clients is how long each would wait for a service that costs nothing itself. The
clients run in this process, beside the server on the same machine. The figures go to benchmarks/results/torture.jsonl
and docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from collections import Counter
from datetime import date

import numpy as np
import torch
from PIL import Image
from servers import Process, started

from bothways.serve.models import Asked, served
from reliability import record
from rough_clients import Client, Server

BATCH = 32
CLIENTS = (1, 8, 32, 128)
STEADY = 32  # clients of the long run
PARTS = 5  # of the long run, after each of which memory is measured
FIRST = 1_000  # requests after which memory is measured first


def photos(size: int, count: int = 64) -> list[bytes]:
    """PNGs of soft noise, as large as the model takes them."""
    found = []
    for number in range(count):
        draws = np.random.Generator(np.random.PCG64(number))
        small = Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((size, size), Image.Resampling.BICUBIC).save(kept := io.BytesIO(), "PNG")
        found.append(kept.getvalue())
    return found


def bare(address: str, batch: int) -> tuple[float, float]:
    """Seconds a picture of the model alone, and of processor time; the median of several calls."""
    model = served(address)
    images = torch.rand(batch, 3, model.spec.height, model.spec.width)
    times = []
    for _ in range(max(8, 64 // batch)):
        began, used = time.perf_counter(), time.process_time()
        model.answer(Asked("classes"), images)
        times.append((time.perf_counter() - began, time.process_time() - used))
    wall, used = np.median(times, axis=0) / batch
    return float(wall), float(used)


async def load(
    server: Server, contents: list[bytes], clients: int, requests: int
) -> tuple[float, list[float], Counter]:
    """(seconds, latencies, {status: how many}) of so many requests by so many clients at once."""
    latencies, statuses, left = [], Counter[int](), iter(range(requests))

    async def one() -> None:
        client = Client(server)
        for number in left:
            began = time.perf_counter()
            status, _ = await client.ask("POST", "/classify", contents[number % len(contents)])
            latencies.append(time.perf_counter() - began)
            statuses[status] += 1
        client.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return time.perf_counter() - began, latencies, statuses


def row(name: str, sent: str, tried: int, answered: str) -> dict[str, object]:
    """A line of the page, printed as it comes."""
    print(f"{tried:,} {sent}: {answered}", flush=True)
    found = {"part": "service", "kind": "load", "name": name, "sent": sent, "tried": tried, "answered": answered}
    return {**found, "date": date.today().isoformat(), "broken": 0}  # anything but an answer ends the program


def counted(statuses: Counter) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))


def of_clients(clients: int, seconds: float, latencies: list[float], statuses: Counter, picture: float) -> dict:
    p50, p95 = np.percentile(latencies, [50, 95])
    alone = picture * clients  # one picture of each, in batches as large as the service may join
    return row(
        f"clients-{clients:03}", f"pictures by {clients} client{'s' * (clients > 1)}", len(latencies),
        f"{counted(statuses)}; {len(latencies) / seconds:.0f} a second; half of them within {p50 / alone:.1f} times "
        f"the bare call, 95 of 100 within {p95 / alone:.1f}",
    )  # fmt: skip


def flood(process: Process, server: Server, contents: list[bytes]) -> dict:
    """More at once than may wait."""
    clients = 400
    _, _, statuses = asyncio.run(load(server, contents, clients, 3 * clients))
    assert set(statuses) <= {200, 503}, statuses
    told = f"{counted(statuses)}, where 503 asks to come again; {process.megabytes:.0f} MB of memory"
    return row("flood", f"pictures by {clients} clients at once", 3 * clients, told)


def steady(process: Process, server: Server, contents: list[bytes], requests: int) -> dict:
    """Memory over many requests."""
    asyncio.run(load(server, contents, STEADY, FIRST))
    before, began, files = process.megabytes, process.seconds, process.files
    seconds, held = 0.0, []
    for _ in range(PARTS):
        part, _, statuses = asyncio.run(load(server, contents, STEADY, requests // PARTS))
        assert set(statuses) == {200}, statuses
        seconds, held = seconds + part, [*held, f"{process.megabytes:.0f}"]
    each = 1000 * (process.seconds - began) / requests
    told = (
        f"all; {requests / seconds:.0f} a second; {before:.0f} MB of memory after the first thousand, then "
        f"{', '.join(held)}; {each:.1f} ms of the service's processor time each; open files {files}, {process.files}"
    )
    return row("steady", f"pictures by {STEADY} clients", requests, told)


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--model", default="bundled:cifar10-resnet")
    given.add_argument("--requests", type=int, default=10_000)
    given = given.parse_args()
    sizes = {count: bare(given.model, count) for count in sorted({min(count, BATCH) for count in CLIENTS})}
    for count, (wall, used) in sizes.items():
        print(f"bare call of {count}: {1000 * wall:.2f} ms a picture, {1000 * used:.2f} ms of processor time")
    contents = photos(served(given.model).spec.height)
    with started("serve", given.model, "--batch", BATCH) as process:
        server = Server(process.port)
        asyncio.run(load(server, contents, 4, 200))  # warm
        rows = []
        for clients in CLIENTS:
            found = asyncio.run(load(server, contents, clients, 1_000 if clients > 1 else 300))
            rows.append(of_clients(clients, *found, sizes[min(clients, BATCH)][0]))
        rows.append(steady(process, server, contents, given.requests))
        rows.append(flood(process, server, contents))
    record(rows)


if __name__ == "__main__":
    main()
