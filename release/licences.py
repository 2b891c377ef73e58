"""Write docs/licences.md: the licence of every package that bothways may install, as each states it itself.

    python release/licences.py

Read from what is installed here, so run it where all extras are; it says which are missing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
MISSING = "not installed where this page was written, nor what it needs"
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

bothways is under the Apache License 2.0. The packages below are installed beside it and are no part of it: those that
it needs, those of its extras, and what these need. Each licence is what the package itself states.
`python release/licences.py` writes this page from what is installed, on Linux with the CPU build of torch; a GPU build
adds packages of NVIDIA, which have their own.

| package | needed by | licence |
|---|---|---|
"""


def stated() -> Iterator[tuple[Requirement, str]]:
    """(what bothways needs, the extra that it is of or "")."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield from ((Requirement(text), "") for text in project["dependencies"])
    for extra, texts in project["optional-dependencies"].items():
        yield from ((Requirement(text), extra) for text in texts if extra != "dev")


def needed(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """What a package needs here, with these extras of its own; nothing of one that is not installed."""
    try:
        texts = distribution(name).requires or ()
    except PackageNotFoundError:
        return
    for one in map(Requirement, texts):
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one


def packages() -> dict[str, set[str]]:
    """{package: the extras that lead to it; "" for bothways itself}."""
    found: dict[str, set[str]] = {}
    waiting = list(stated())
    while waiting:
        one, extra = waiting.pop()
        name = canonicalize_name(one.name)
        if name != "bothways" and extra not in found.get(name, set()):
            found.setdefault(name, set()).add(extra)
            waiting += [(inner, extra) for inner in needed(name, one.extras)]
    return found


def licence(name: str) -> str:
    """What a package states: its expression, else its classifiers, else the first line of its licence."""
    try:
        facts = distribution(name).metadata
    except PackageNotFoundError:
        return MISSING
    if facts.get("License-Expression"):
        return facts["License-Expression"]
    classed = [line.split(" :: ")[-1] for line in facts.get_all("Classifier") or () if line.startswith("License ::")]
    stated = (facts.get("License") or "").strip().splitlines()[:1]
    short = [line for line in stated if len(line) < 60 and line != "UNKNOWN"]
    found = [line for line in classed if line != "OSI Approved"] or short
    return re.sub(r"\s+", " ", ", ".join(found)) or "not stated"


def page() -> str:
    rows = []
    for name, extras in sorted(packages().items()):
        by = "bothways" if "" in extras else ", ".join(sorted(extras))
        rows.append(f"| {name} | {by} | {licence(name).replace('|', '/')} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    for name in packages():
        if licence(name) == MISSING:
            print(f"{name}: {MISSING}")
