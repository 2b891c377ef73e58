"""Sections are found by the task of a run, and a module defines nothing that the report does not ask for."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch

from bothways import registry
from bothways.report import render
from bothways.report.sections import DEFAULT, Section, section_of
from bothways.runs import RunFolder

ROOMS = sorted(path.parent.name for path in (Path(registry.__file__).parent / "tasks").glob("*/section.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_section_defines_is_called_as_the_report_calls_it(room: str) -> None:
    module = import_module(f"bothways.tasks.{room}.section")
    defined = [name for name in DEFAULT if hasattr(module, name)]
    assert defined
    for name in set(defined) - {"work", "schema"}:
        asked = list(inspect.signature(getattr(Section, name)).parameters)[1:]
        assert list(inspect.signature(getattr(module, name)).parameters) == asked, name


def test_the_default_has_everything_that_is_asked() -> None:
    assert set(DEFAULT) == {name for name in vars(Section) if not name.startswith("_")} | {"work", "schema"}


def test_a_task_without_a_section_shows_its_pictures(tmp_path: Path) -> None:
    runs = [RunFolder.create(tmp_path / name, {"task": "of-another"}) for name in "ab"]
    for folder in runs:
        folder.save_pictures(torch.rand(2, 3, 8, 8), [{"index": 0, "class": "frog"}, {"index": 1}])
    page = render(runs)
    assert "of-another drew 2 pictures of frog" in page
    assert page.count("<img src=") == 4
    assert "Judge metrics" not in page


def test_a_registered_task_has_the_section_of_its_folder() -> None:
    known = registry.entries("task")
    of_sample = import_module("bothways.tasks.sample.section")
    assert "sample" in known
    assert section_of("sample").comparison_table is of_sample.comparison_table
