"""What a form learns of a model: class names that can be told apart, and whether it reads text."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bothways.models.loader import load_model
from bothways.studio import child, models
from bothways.studio.models import _unique_names, about, bundled
from bothways.types import UserError
from zoo import stood_in

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


def test_a_bundled_model_tells_its_classes_as_the_model_does() -> None:
    for address in bundled():
        spec = load_model(address).spec
        assert about(address).classes == tuple(spec.class_name(i) for i in range(spec.count))
        assert not about(address).reads_text


def test_a_file_of_ones_own_is_read() -> None:
    assert about(TOY).classes == ("anchor", "barrel", "candle", "dragon")
    assert not about(TOY).reads_text
    found = about(TOY.replace(":build", ":with_text"))
    assert (found.classes, found.reads_text) == ((), True)


def test_one_that_reads_text_is_known(zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "answer", partial(child.answer, stood_in))
    found = about(zoo("clip"))
    assert (found.classes, found.reads_text) == ((), True)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UserError, match="not known"):
        about("resnet50")


def test_two_classes_of_one_name_have_numbers() -> None:
    assert _unique_names(["crane", "dog", "crane"]) == ("0", "dog", "2")
