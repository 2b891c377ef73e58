"""Install bothways with the lowest versions that pyproject.toml allows, or with the newest, and run some of the tests.

    python release/bounds.py lowest highest [--extras digits ode ...] [--folder FOLDER]

An environment is made for each end, in a folder that is removed unless it is named. Of "lowest" every package that
pyproject.toml names has the version of its bound, and what these need is the newest that fits. At both ends torch is
that of constraints.txt, whose build is for the CPU alone; the registry has other releases with their GPU packages only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
WELL = "installed, it draws, and its tests pass"
PINNED = ROOT / "constraints.txt"
# Those that install in a minute or two; timm, open_clip and studio take gigabytes, and make wheel-check installs them.
EXTRAS = ("datasets", "digits", "hf", "imagenet", "lora", "ode", "onnx", "serve", "tensorboard", "video")
TOOLS = ("pytest>=8.0", "hypothesis>=6.100")
# A file for each library that bothways itself needs or that an extra brings.
TESTS = (
    "tests/runs/test_folder.py", "tests/report/test_page.py",
    "tests/report/test_sheet.py", "tests/cli/test_commands.py", "tests/data/test_hub.py", "tests/data/test_digits.py",
    "tests/data/test_images.py", "tests/numerics/test_solvers.py", "tests/representation/test_couplings.py",
    "tests/training/test_fit.py", "tests/models/test_weights.py", "tests/serve/test_service.py",
)  # fmt: skip
TRIES = (
    ("-m", "pip", "check"),
    ("-m", "bothways", "--version"),
    ("-m", "bothways", "generate", "bundled:cifar10-resnet", "--class", "frog", "--steps", "1", "--n", "1"),
)


def requirements(extras: tuple[str, ...]) -> Iterator[Requirement]:
    """What bothways and these extras of it name in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in [
        *project["dependencies"],
        *(text for name in extras for text in project["optional-dependencies"][name]),
    ]:
        yield Requirement(text)


def bound(one: Requirement) -> str:
    """The lowest version that a requirement allows. Raises ValueError for one without a bound."""
    for part in one.specifier:
        if part.operator in (">=", "=="):
            return part.version
    raise ValueError(f"{one} has no lowest version; write one in pyproject.toml")


def constraints(end: str, extras: tuple[str, ...]) -> list[str]:
    """The lines of the constraints file of an end: torch as it is pinned, and of "lowest" each bound as a version."""
    pinned = [line for line in PINNED.read_text(encoding="utf-8").splitlines() if line.strip()]
    known = {Requirement(line).name for line in pinned}
    lowest = {one.name: f"{one.name}=={bound(one)}" for one in requirements(extras) if one.name not in known}
    return [*pinned, *(lowest.values() if end == "lowest" else ())]


def tried(end: str, extras: tuple[str, ...], folder: Path) -> str:
    """What fails at an end, in a new environment below a folder; "" for nothing."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    (folder / "constraints.txt").write_text("".join(f"{line}\n" for line in constraints(end, extras)), encoding="utf-8")
    place = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    install = ("-m", "pip", "install", "-q", "--no-input", "-c", str(folder / "constraints.txt"), place, *TOOLS)
    # what an old library says of a newer one that it imports is no fault of ours
    quiet = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")
    tests = ("-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *quiet, *(str(ROOT / name) for name in TESTS))
    for arguments in (install, *TRIES, tests):
        found = subprocess.run(
            [python, *arguments], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(arguments)}\n{found.stdout}{found.stderr}\n")
        if found.returncode != 0:
            told = (found.stderr + found.stdout).strip().splitlines() or ["no word"]
            return f"{' '.join(arguments[:4])}: {told[-1]}"
    return ""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("ends", nargs="+", choices=("lowest", "highest"))
    given.add_argument("--extras", nargs="*", default=list(EXTRAS), help=f"default: {' '.join(EXTRAS)}")
    given.add_argument("--record", action="store_true", help="keep what is found for docs/reliability.md")
    given.add_argument("--folder", type=Path, help="keep the environments below it")
    told = given.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as kept:
        for end in told.ends:
            fault = tried(end, tuple(told.extras), (told.folder or Path(kept)) / end)
            failed += bool(fault)
            print(f"{end}: {fault or WELL}", flush=True)
            if told.record:
                from check import record

                record(f"{end} versions", len(TRIES) + 1, fault or WELL, not fault)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
