"""What a release consists of: the files of the wheel, the same bytes twice, and the licence of every dependency."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def program(name: str) -> ModuleType:
    """A file of release/ as a module."""
    described = importlib.util.spec_from_file_location(f"release_{name}", ROOT / "release" / f"{name}.py")
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


def tracked(*folders: str) -> set[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the list of tracked files is not here")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not here")
    files = tracked("src/bothways", "recipes")
    wheel = program("wheel").built(tmp_path, "1700000000")
    with zipfile.ZipFile(wheel) as kept:
        infos = kept.infolist()
        told = kept.read(next(one.filename for one in infos if one.filename.endswith("/METADATA"))).decode()
    own = {one.filename for one in infos if ".dist-info/" not in one.filename}
    assert own == {name.removeprefix("src/") if name.startswith("src/") else f"bothways/{name}" for name in files}
    beside = {one.filename.partition(".dist-info/")[2] for one in infos} - {""}
    assert beside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert {one.date_time for one in infos} == {(2023, 11, 14, 22, 13, 20)}
    assert set(re.findall(r"^Provides-Extra: (\S+)", told, re.MULTILINE)) == {
        name.replace("_", "-") for name in PROJECT["optional-dependencies"]
    }


def test_two_builds_are_the_same_and_two_that_differ_are_told(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not here")
    wheel = program("wheel")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = wheel.reproduced(tmp_path / "dist")
    assert made.parent == tmp_path / "dist"
    real, times = wheel.built, iter(["1700000000", "1700000002"])
    monkeypatch.setattr(wheel, "built", lambda folder, when: real(folder, next(times)))
    with pytest.raises(SystemExit, match="differ"):
        wheel.reproduced(tmp_path / "other")


def test_every_dependency_has_its_licence_on_the_page() -> None:
    page = (ROOT / "docs" / "licences.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w.-]+) \| .+ \| (.+) \|$", page, re.MULTILINE))
    extras = {name: texts for name, texts in PROJECT["optional-dependencies"].items() if name != "dev"}
    for text in (*PROJECT["dependencies"], *(text for texts in extras.values() for text in texts)):
        name = re.match(r"[\w.-]+", text)
        assert name
        assert re.sub(r"[._-]+", "-", name[0]).lower() in rows, f"{name[0]}: run python release/licences.py"
    assert all(rows.values())


def test_extras_that_are_tried_are_those_of_the_project() -> None:
    assert program("check").extras() == [name for name in PROJECT["optional-dependencies"] if name != "dev"]
    assert set(program("check").extras()) <= set(
        re.findall(r"[\w-]+", " ".join(PROJECT["optional-dependencies"]["dev"]))
    )


def test_what_is_cited_is_what_is_here() -> None:
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nlicense: {PROJECT['license']}\n" in cited
    assert f"  - name: {PROJECT['authors'][0]['name']}\n" in cited
    for file in re.findall(r"\]\(([\w/.-]+)\)", (ROOT / "SECURITY.md").read_text("utf-8")):
        assert (ROOT / file).is_file()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"wheel", "wheel-check", "sbom"} <= set(targets)
