"""The command of the audit: a table and a page, JSON alone, and exit codes for a model's own CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bothways.cli import main
from bothways.numerics.draws import Draws
from bothways.runs import to_png

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
CLASSES = ("anchor", "barrel", "candle", "dragon")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i, image in enumerate(Draws(range(100 * place, 100 * place + 12)).uniform((3, 16, 16))):
            (folder / name / f"{i}.png").write_bytes(to_png(image))
    return folder


def run(capfd, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["explain", *map(str, arguments)])
    said = capfd.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_a_table_and_a_page(data, tmp_path, capfd) -> None:
    out = tmp_path / "audit"
    code, said, _ = run(capfd, TOY, "--data", data, "--n", 2, "--steps", 2, "--out", out)
    assert code == 0
    assert all(name in said for name in CLASSES)
    assert (out / "audit.html").is_file()
    assert str(out / "audit.html") in said
    assert "omitted from this page" not in (out / "audit.html").read_text()
    code, _, _ = run(capfd, TOY, "--data", data, "--n", 2, "--steps", 2, "--out", out, "--resume", "--hide-data")
    assert code == 0
    assert "omitted from this page" in (out / "audit.html").read_text()


def test_json_is_all_that_is_printed_and_limits_end_with_one(data, tmp_path, capfd) -> None:
    given = (TOY, "--data", data, "--n", 2, "--steps", 2, "--json")
    code, said, _ = run(capfd, *given, "--out", tmp_path / "a", "--classes", "anchor", "barrel", "dragon")
    assert code == 0
    assert "NaN" not in said  # which is no JSON; two seeds have no interval
    assert [own["name"] for own in json.loads(said)["classes"]] == ["anchor", "barrel", "dragon"]
    code, said, complaint = run(capfd, *given, "--out", tmp_path / "b", "--fail-on", "consistency>0.01")
    assert code == 1
    assert len(json.loads(said)["classes"]) == 4
    assert complaint.count("consistency of") == 4
    code, _, complaint = run(capfd, *given, "--out", tmp_path / "c", "--fail-on", "speed>1")
    assert code == 2
    assert "consistency>X" in complaint
    assert not (tmp_path / "c").exists()


def test_mistakes_are_one_line(data, tmp_path, capfd) -> None:
    for wrong, told in (
        (("--classes", "anchor", "barrel"), "3 or more"),
        (("--classes", "anchor", "barrel", "drgon"), "dragon"),
        (("--n", 1), "n=1"),
        (("--real", 3), "real=3"),
    ):
        code, _, complaint = run(capfd, TOY, "--data", data, "--out", tmp_path / "x", *wrong)
        assert code == 2
        assert told in complaint
        assert complaint.count("\n") == 1
        assert not (tmp_path / "x").exists()
