"""Ways in which a file of a run folder can be other than what was written, by a seeded generator."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

OTHERS: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1.5, "x", "", "\0", [], [1], ["x", None], {}, {"x": 1}, [[]])
SECONDS = 120  # after which a call is taken to hang


@contextmanager
def no_hang() -> Iterator[None]:
    """Raises TimeoutError inside where what is done takes SECONDS."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError("this hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- what stands inside --------------------------------------------------------------------------------------------


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value within tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from places(inner, (*above, key))


def changed(value: Any, draw: Random) -> Any:
    """The same with one value of another kind, or without one key."""
    every = list(places(value))
    if not every:
        return draw.choice(OTHERS)
    *way, last = draw.choice(every)
    inner = value
    for key in way:
        inner = inner[key]
    if draw.random() < 0.3:
        del inner[last]
    else:
        inner[last] = draw.choice([other for other in OTHERS if type(other) is not type(inner[last])])
    return value


def rewritten(file: Path, draw: Random) -> None:
    """The JSON, the lines of JSON or the TOML of a file with one change inside."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".toml":
        without_null = changed(tomllib.loads(text), draw)
        file.write_text(tomli_w.dumps(_as_toml(without_null) if isinstance(without_null, dict) else {}))
    elif file.suffix == ".jsonl":
        lines = text.splitlines() or ["{}"]
        k = draw.randrange(len(lines))
        lines[k] = json.dumps(changed(json.loads(lines[k]), draw))
        file.write_text("".join(f"{line}\n" for line in lines))
    else:
        file.write_text(json.dumps(changed(json.loads(text), draw)))


def _as_toml(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_toml(inner) for key, inner in value.items() if inner is not None}
    return [_as_toml(one) for one in value if one is not None] if isinstance(value, list) else value


# ---- what stands in its place --------------------------------------------------------------------------------------


def deep(file: Path, draw: Random) -> None:
    brackets = "[" * 10_000
    file.write_text(f"a = {brackets}" if file.suffix == ".toml" else f"{brackets}\n")


def empty(file: Path, draw: Random) -> None:
    file.write_bytes(b"")


def torn(file: Path, draw: Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(max(1, len(content)))])


def junk(file: Path, draw: Random) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n" * draw.randrange(2) + draw.randbytes(200) + b"\n")


def flipped(file: Path, draw: Random) -> None:
    content = bytearray(file.read_bytes() or b"x")
    for _ in range(4):
        content[draw.randrange(len(content))] = draw.randrange(256)
    file.write_bytes(content)


def nan(file: Path, draw: Random) -> None:
    file.write_text("a = nan\n" if file.suffix == ".toml" else '{"task": NaN, "state": NaN, "step": NaN}\n')


def nothing(file: Path, draw: Random) -> None:
    file.unlink()


def pipe(file: Path, draw: Random) -> None:
    file.unlink()
    os.mkfifo(file)


def endless(file: Path, draw: Random) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def folder(file: Path, draw: Random) -> None:
    file.unlink()
    file.mkdir()


def circle(file: Path, draw: Random) -> None:
    file.unlink()
    file.symlink_to(file.name)


def huge(file: Path, draw: Random) -> None:
    """A sparse file of 3 TB."""
    file.write_bytes(b"{")
    os.truncate(file, 3 * 10**12)


IN_PLACE: tuple[Callable[[Path, Random], None], ...] = (
    deep, empty, torn, junk, flipped, nan, nothing, pipe, endless, folder, circle, huge,
)  # fmt: skip
