"""What a release consists of: the wheel, the same twice, the licences, the docs of each version, what CI checks."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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


@pytest.mark.slow
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
    needed = re.findall(r"^\| [\w.-]+ \| (.+) \| .+ \|$", page, re.MULTILINE)
    names = {name for text in needed[1:] for name in text.split(", ")}
    assert names - {"bothways"} <= set(extras), "run python release/licences.py"


def test_the_page_of_the_bundled_models_has_the_sizes_of_their_files() -> None:
    page = " ".join((ROOT / "docs" / "models.md").read_text("utf-8").split())
    bundled = ROOT / "src/bothways/models/bundled"
    told = re.search(r"take under ([\d.]+) MB, the flow ([\d.]+) MB, the flow made a classifier ([\d.]+) MB", page)
    assert told
    for name, size in (("flow", told[2]), ("prg", told[3])):
        assert f"{(bundled / f'cifar10-{name}.safetensors').stat().st_size / 1e6:.1f}" == size
    three = [path for kind in ("resnet", "attention", "plain") for path in bundled.glob(f"cifar10-{kind}.*")]
    assert sum(path.stat().st_size for path in three) < float(told[1]) * 1e6


def test_extras_that_are_tried_are_those_of_the_project() -> None:
    assert program("check").extras() == [name for name in PROJECT["optional-dependencies"] if name != "dev"]
    assert set(program("check").OF_EXTRA) == set(program("check").extras())
    assert set(program("check").extras()) <= set(
        re.findall(r"[\w-]+", " ".join(PROJECT["optional-dependencies"]["dev"]))
    )


def test_the_lowest_versions_are_the_bounds_and_torch_is_the_pinned_one() -> None:
    bounds = program("bounds")
    lowest = dict(line.split("==") for line in bounds.constraints("lowest", ("serve",)))
    for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["serve"]):
        name, bound = text.split(">=")
        assert lowest[name] == bound or name == "torch"
    assert lowest["torch"] == (ROOT / "constraints.txt").read_text("utf-8").strip().removeprefix("torch==")
    # every command was run with torch 2.11, on a GPU that has no other; a lower one was not tried
    assert "torch>=2.11" in PROJECT["dependencies"]
    assert bounds.constraints("highest", ("serve",)) == [f"torch=={lowest['torch']}"]
    assert [name for name in bounds.TESTS if not (ROOT / name).is_file()] == []
    with pytest.raises(ValueError, match="pillow has no lowest version"):
        bounds.bound(bounds.Requirement("pillow"))


def test_what_is_cited_is_what_is_here() -> None:
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nlicense: {PROJECT['license']}\n" in cited
    assert f"  - name: {PROJECT['authors'][0]['name']}\n" in cited
    for file in re.findall(r"\]\(([\w/.-]+)\)", (ROOT / "SECURITY.md").read_text("utf-8")):
        assert (ROOT / file).is_file()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"wheel", "wheel-check", "sbom", "docs-version"} <= set(targets)


# ---- what is checked on each change --------------------------------------------------------------------------------


def test_what_is_run_on_a_change_is_there_and_tries_every_extra() -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text("utf-8"))["jobs"]
    typed = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {found[1] for line in typed if (found := re.match(r"make ([a-z-]+)$", line))} == {"docs", "docs-version"}
    assert {"docs", "docs-version"} <= set(targets)
    for line in typed:
        for file in re.findall(r"(?:python |^)((?:\.ci|release)/[\w./]+)", line):
            assert (ROOT / file).is_file(), line
    assert ".ci/run" in typed
    assert "--strict" in (ROOT / "Makefile").read_text("utf-8").partition("\ndocs:")[2].partition("\n\n")[0]
    assert jobs["extras"]["strategy"]["matrix"]["extra"] == "${{ fromJSON(needs.wheel.outputs.extras) }}"
    listing = next(step for step in jobs["wheel"]["steps"] if step.get("id") == "extras")["run"]
    command = re.search(r"\$\(python (.+?)\)", listing)
    assert command
    found = subprocess.run([sys.executable, *command[1].split()], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == ["none", *program("check").extras(), "all"]


@pytest.mark.parametrize(
    ("answers", "fits"),
    [
        ([0, 1, (2, "bothways: torchvision 1 does not fit torch 2 (x); type pip install y\n")], True),
        ([1], False),  # there is none
        ([0, 0], False),  # it works, so that what failed is another fault
        ([0, 1, (1, "Traceback")], False),
        ([0, 1, (2, "bothways: something else\n")], False),
    ],
)
def test_only_a_torchvision_of_another_torch_excuses_a_library(
    answers: list[Any], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, left = program("check"), iter(answers)

    def run(*_: object) -> SimpleNamespace:
        code, said = one if isinstance(one := next(left), tuple) else (one, "")
        return SimpleNamespace(returncode=code, stderr=said)

    monkeypatch.setattr(check, "run", run)
    assert check.misfit("python", ".") is fits


def test_a_wheel_that_is_not_there_is_one_line() -> None:
    for typed, says in (
        (["gone.whl"], "gone.whl is not there"),
        ([], "WHEEL is not there"),
        (["--extras", "x"], "'x'"),
    ):
        found = subprocess.run(
            [sys.executable, "release/check.py", *typed], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert found.returncode == 2
        assert says in found.stderr.splitlines()[-1]


# ---- the docs of several versions ----------------------------------------------------------------------------------


@pytest.fixture
def small_site(tmp_path: Path) -> Path:
    """The settings of a site of one page, in the theme of the docs."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Start\n\n[here](index.md)\n")
    settings = tmp_path / "mkdocs.yml"
    settings.write_text("site_name: small\ntheme: {name: material, font: false}\nuse_directory_urls: false\n")
    return settings


def test_the_docs_of_versions_stand_beside_each_other_with_a_menu(small_site: Path, tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not here")
    docs, folder = program("docs"), tmp_path / "shown"
    for version in ("0.9.0", "0.10.0", "0.11.0.dev0", "0.10.0"):
        assert docs.built(folder, version, small_site) == folder / version
    (folder / "pictures").mkdir()
    (folder / "0.1").mkdir()  # without a page
    docs.listed(folder)
    there = json.loads((folder / "versions.json").read_text())
    assert [one["version"] for one in there] == ["0.11.0.dev0", "0.10.0", "0.9.0"]  # by number, not by letter
    assert 'url=0.10.0/index.html"' in (folder / "index.html").read_text()  # the newest that is released
    told = re.search(
        r'<script id="__config" type="application/json">(.+?)</script>', (folder / "0.9.0/index.html").read_text()
    )
    assert told
    assert json.loads(told[1])["version"] == {"provider": "mike"}


def test_a_link_of_the_docs_that_leads_nowhere_ends_the_build(small_site: Path, tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not here")
    from mkdocs.exceptions import Abort

    (tmp_path / "docs/index.md").write_text("# Start\n\n[there](gone.md)\n")
    with pytest.raises(Abort):
        program("docs").built(tmp_path / "shown", "0.1", small_site)


def test_the_version_of_the_docs_is_that_of_the_package() -> None:
    import bothways

    assert program("docs").own_version() == bothways.__version__
    assert "changelog.md" in (ROOT / "mkdocs.yml").read_text("utf-8")  # the notes of every version are on the site
