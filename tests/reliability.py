"""The figures of benchmarks/torture and the page that is made of them, docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "torture.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
Row = Mapping[str, Any]


def read() -> list[dict[str, Any]]:
    """The figures, a row a line."""
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.is_file() else []


def record(rows: Iterable[Row]) -> None:
    """Keep figures in place of earlier ones of the same part, kind and name, and write the page anew."""
    kept = {_key(row): dict(row) for row in [*read(), *rows]}
    RESULTS.write_text("".join(f"{json.dumps(row)}\n" for _, row in sorted(kept.items())), "utf-8")
    PAGE.write_text(page(read()), "utf-8")


def _key(row: Row) -> tuple[str, str, str]:
    return row["part"], row["kind"], row["name"]


def page(rows: Sequence[Row]) -> str:
    return ""
