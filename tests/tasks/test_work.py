"""How a run ends: its measures are validated before they are written, and what a task returns is said."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, final

import pytest

import bothways
from bothways import registry
from bothways.configs import Config
from bothways.runs import RunFolder
from bothways.runs.experiment import Experiment
from bothways.tasks.likelihood.result import Likelihood
from bothways.tasks.measures import Facts, Measures
from bothways.tasks.work import Work, perform
from bothways.training.config import TrainingConfig
from bothways.types import Frame, UserError


class CountMeasures(Measures):
    count: int
    more: Facts


@final
class Counting(Work):
    schema = CountMeasures
    steps = 1

    def __init__(self, out: Path | None, measures: dict[str, Any], **options: Any) -> None:
        self.experiment = Experiment.begin("count", {}, out, **options)
        self.told = measures

    def frames(self) -> Iterator[Frame]:
        yield Frame(0, 1.0, None, {})

    def measures(self) -> dict[str, Any]:
        return dict(self.told)


GOOD = {"count": 3, "more": {"anything": float("nan")}, "citations": []}


def test_measures_are_written_as_they_were_given(tmp_path: Path) -> None:
    perform(Counting(tmp_path / "run", GOOD))
    measures = RunFolder.open(tmp_path / "run").measures
    assert {**measures, "cost": {}} == {"count": 3, "more": {"anything": None}, "citations": [], "cost": {}}
    CountMeasures.model_validate(measures)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"count": "three"}, "count"), ({"other": 1}, "other"), ({"citations": None}, "citations"), ({"more": 1}, "more")],
)
def test_measures_that_are_not_valid_are_not_written(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    for out in (tmp_path / "run", None):
        with pytest.raises(UserError, match=rf"{says} is .*nothing of it is written"):
            perform(Counting(out, {**GOOD, **change}))
    folder = RunFolder.open(tmp_path / "run")
    assert folder.status["state"] == "failed"
    assert folder.measures == {}


def test_a_number_that_is_not_finite_is_read_back() -> None:
    """The interval of a single picture is NaN in Python, null in the file."""
    facts = {"bits_per_dim": 3.0, "low": None, "high": None, "solver": "euler", "steps": 1, "divergence": "exact"}
    read = Likelihood(**facts, dims=3, calls=1, draws=1, n=1, bits=[3.0])
    assert read.low != read.low


def test_the_docstring_of_a_task_says_what_it_returns() -> None:
    for task in registry.names("task"):
        config = registry.find("task", task).factory
        first = config.gives.replace(":", " ").replace(",", " ").split()
        work = run_of(config)
        returned = str(work.result.__annotations__["return"])
        expected = {"Any": "dict", "dict[str, Any]": "dict", "list[Prediction]": "list"}.get(returned, returned)
        if issubclass(config, TrainingConfig):
            expected = vars(work)["trained"].__annotations__["return"]
        assert first[1] == expected, (task, first, returned)
        assert expected in ("dict", "list", *bothways.__all__)
        assert f"\nReturns {config.gives}.\n" in getattr(bothways, task).__doc__


def run_of(config: type[Config]) -> type[Work]:
    """The class of a task's runs: what its ``prepare`` returns."""
    module = import_module(config.__module__.replace(".config", ".run"))
    returned = module.prepare.__annotations__["return"]
    return eval(returned, vars(module))
