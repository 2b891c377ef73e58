"""Build the wheel twice, and keep it where the two are the same, byte for byte.

    python release/wheel.py [FOLDER]

The times in it are that of the last commit, or SOURCE_DATE_EPOCH. Needs hatchling and no network.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def epoch() -> str:
    """Seconds of the last commit, or SOURCE_DATE_EPOCH where it is set."""
    command = ["git", "log", "-1", "--format=%ct"]
    told = os.environ.get("SOURCE_DATE_EPOCH")
    return told or subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def built(folder: Path, when: str) -> Path:
    """A wheel in a folder, built in a process of its own. when: seconds, the time of every file in it."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": when}
    command = [sys.executable, "-c", BUILD, str(folder)]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"wheel: {(found.stderr.strip().splitlines() or ['it was not built'])[-1]}")
    return folder / found.stdout.strip().splitlines()[-1]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def reproduced(folder: Path) -> Path:
    """The wheel in a folder. Raises SystemExit where a second one differs."""
    when = epoch()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as other:
        first, second = built(folder, when), built(Path(other), when)
        if digest(first) != digest(second):
            raise SystemExit(f"wheel: two builds of {first.name} differ, {digest(first)} and {digest(second)}")
    return first


if __name__ == "__main__":
    made = reproduced(Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve())
    print(f"{digest(made)}  {made}")
