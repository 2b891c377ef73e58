"""Every public function, given anything: a result or one line of an error, never another exception or a hang."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

import bothways
from anything import ARGUMENTS, GIVEN, Stored, answer, calls, flow, settings_of, toy
from guard import BrokenError, guarded

FEW = settings(
    max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    database=None,
)  # fmt: skip
SECONDS, MEGABYTES = 30, 1_500  # of the calls of one function together


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored.write(tmp_path_factory.mktemp("anything"))


@pytest.mark.usefixtures("_rough_samples")
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
@pytest.mark.slow
def test_anything_is_a_result_or_a_line(name: str, stored: Stored) -> None:
    guarded(partial(try_all, name, stored), seconds=SECONDS, megabytes=MEGABYTES)


def try_all(name: str, stored: Stored) -> None:
    """In a child process, which a hang or a great allocation ends."""

    @FEW
    @given(drawn=calls(name, stored))
    def each(drawn: tuple[str, Callable[[], Any]]) -> None:
        answer(*drawn, stored)

    each()


def test_every_public_name_has_a_strategy() -> None:
    assert sorted({*ARGUMENTS, *GIVEN}) == sorted(bothways.__all__)
    assert not [name for name in GIVEN if inspect.isfunction(getattr(bothways, name))]


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_the_arguments_are_those_of_the_function(name: str) -> None:
    of = ARGUMENTS[name]
    if of.called is None and name != "sweep":
        taken = inspect.signature(getattr(bothways, name)).parameters
        known = {*taken, *settings_of(name), *(key.rpartition(".")[2] for key in settings_of(name)), "train_steps"}
        assert {*of.needed, *of.small} <= known


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda at: bothways.load_flow(at("flow"), path={1: 2}), "path {1: 2}: type a name, PATH.py:NAME, or give"),
        (lambda at: bothways.decode(int, torch.rand(1, 3, 8, 8)), "flow is <class 'int'>; give a run"),
        (lambda at: bothways.encode(flow(), torch.rand(1, 3, 8, 8), full_state=torch.ones(2)), "full_state is Tensor"),
        (lambda at: bothways.dsf_score(toy(), torch.tensor(1.0)), "give a tensor (N, 3, H, W) in [0, 1]"),
        (lambda at: bothways.recipes("generate", "n" * 300), "file name too long"),
        (
            lambda at: bothways.finetune(at("flow"), at("split"), **{"features.kind": torch.ones(2)}),
            "features.kind=Tensor",
        ),
    ],
)
def test_what_once_was_a_traceback_is_a_line(call: Callable[..., Any], told: str, stored: Stored) -> None:
    with pytest.raises(bothways.UserError, match=re.escape(told)):
        call(lambda name: str(stored.place / name))


def test_as_many_pictures_as_there_are_may_be_asked_for(stored: Stored) -> None:
    whole = bothways.load_images(str(stored.place / "small"))
    assert torch.equal(bothways.load_images(str(stored.place / "small"), first=2**63).images, whole.images)


@pytest.mark.parametrize("fault", [KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x")])
def test_another_exception_is_told_with_its_call(fault: Exception, stored: Stored) -> None:
    def call() -> None:
        raise fault

    with pytest.raises(AssertionError, match=f"^f\\(x=1\\): .*{type(fault).__name__}"):
        answer("f(x=1)", call, stored)


def test_a_write_outside_and_a_hang_are_found(stored: Stored, tmp_path: Path) -> None:
    def writes() -> None:
        (stored.place / "outside").write_text("x")

    def hangs() -> None:
        while True:
            pass

    with pytest.raises(AssertionError, match="written outside"):
        answer("f()", writes, stored)
    (stored.place / "outside").unlink()
    with pytest.raises(BrokenError, match="signal"):
        guarded(partial(answer, "f()", hangs, stored), seconds=1, megabytes=MEGABYTES)
