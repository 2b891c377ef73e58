"""A few of the damaged files of benchmarks/torture/inputs.py, and what they brought to light."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

import bothways
from bothways import ModelSpec, RunError, UserError, load_model
from bothways.progress import Ledger, listening
from bothways.reading import CHUNK, read_bytes
from bothways.runs.files import append_lines, read_lines
from bothways.tasks.generate.config import GenerateConfig
from bothways.tasks.recipes import configure
from command import run
from guard import guarded, outcome
from small_flow import small_unet
from toy_model import seeded, spec

FEW = settings(
    max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
PLACE = Path(__file__).resolve().parents[1] / "benchmarks" / "torture" / "inputs.py"


@pytest.fixture(scope="module")
def inputs() -> Any:
    described = importlib.util.spec_from_file_location("torture_inputs", PLACE)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["recipes", "cards", "models", "names"])
@pytest.mark.slow
def test_damaged_inputs_are_a_result_or_a_line(kind: str, inputs: Any, tmp_path: Path) -> None:
    found = inputs.outcomes(inputs.KINDS[kind][0], 0, 50, tmp_path)
    assert [text for text in found.values() if text.startswith("broken")] == []
    assert {text.split()[0] for text in found.values()} == {"result", "line"}


def test_a_broken_one_is_found_and_its_number_told(inputs: Any, tmp_path: Path) -> None:
    def third_fails(number: int, folder: Path) -> str:
        if number == 3:
            raise KeyError("three")
        return "result"

    found = inputs.outcomes(third_fails, 0, 5, tmp_path)
    assert [number for number, text in found.items() if text.startswith("broken: KeyError")] == [3]


# ---- what they brought to light --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["views", "canvas", "terms", "ascent"])
def test_a_recipe_whose_table_is_a_list_is_named(table: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'task = "generate"\n{table} = [1]\n')
    with pytest.raises(UserError, match=rf"mine.toml': {table} is no table; write \[{table}\]"):
        configure(GenerateConfig, model="x", recipe=str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("kind", [UserError, RunError])
def test_an_error_is_one_line_whatever_stands_in_it(kind: type[Exception]) -> None:
    assert str(kind("a\nb \x1b[31m\u202e é")) == "a\\nb \\x1b[31m\\u202e é"


def test_a_small_file_takes_little_memory_to_read(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    append_lines(file, [{"a": 1}])
    assert guarded(partial(read_lines, file), seconds=10, megabytes=100) == [{"a": 1}]
    content = os.urandom(3 * CHUNK + 7)
    file.write_bytes(content)
    assert read_bytes(file, len(content)) == content
    with pytest.raises(UserError, match="bytes, and at most"):
        read_bytes(file, len(content) - 1)


def test_a_model_file_that_hangs_says_what_is_waited_for(tmp_path: Path) -> None:
    held = threading.Event()
    (tmp_path / "slow.py").write_text("def build():\n    import held\n    held.event.wait(20)\n")
    import sys
    import types

    module = types.ModuleType("held")
    module.event = held  # type: ignore[attr-defined]
    sys.modules["held"] = module
    ledger, said = Ledger(), []

    def look() -> None:
        while not said:
            said.extend(one.stage.name for one in ledger.unfinished() if one.stage.name.startswith("running"))
            time.sleep(0.01)
        held.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with listening(ledger), pytest.raises(UserError, match="must return"):
            load_model(f"{tmp_path / 'slow.py'}:build")
    finally:
        said.append("")
        watcher.join()
        del sys.modules["held"]
    assert said[0] == "running slow.py:build"


@pytest.mark.slow
def test_a_model_file_that_hangs_ends_by_an_interrupt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pressed = "os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "slow.py").write_text(f"import os, signal, time\ndef build():\n    {pressed}\n    time.sleep(20)\n")
    assert run("generate", f"{tmp_path}/slow.py:build", "--class", "anchor", "--out", tmp_path / "run") == 130
    assert "stopped" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# ---- the public functions, given anything ----------------------------------------------------------------------------

THINGS = some.one_of(
    some.none(), some.booleans(), some.integers(), some.floats(), some.text(max_size=8), some.binary(max_size=4),
    some.lists(some.integers(-3, 5), max_size=3), some.dictionaries(some.text(max_size=3), some.integers(), max_size=2),
)  # fmt: skip
SHAPES = some.lists(some.integers(0, 9), max_size=5)
VALUES = some.sampled_from([0.0, 0.5, 1.0, -1.0, 2.0, float("nan"), float("inf")])
KINDS = some.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool])


@some.composite
def tensors(draw: Any) -> torch.Tensor:
    return torch.full(draw(SHAPES), draw(VALUES)).nan_to_num(0.0, 1.0, 0.0).to(draw(KINDS))


@some.composite
def bad_tensors(draw: Any) -> torch.Tensor:
    return torch.full(draw(SHAPES), draw(VALUES))


PICTURES = some.one_of(THINGS, tensors(), bad_tensors())
MODEL = load_model(seeded(), spec())
FLOW = bothways.load_flow(small_unet(), ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0))


def quiet(call: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome(call)


@FEW
@given(images=PICTURES, depth=some.one_of(THINGS, some.floats(0, 1)), steps=some.one_of(THINGS, some.integers(1, 3)))
@pytest.mark.slow
def test_encode_and_decode_of_anything(images: Any, depth: Any, steps: Any) -> None:
    steps = min(steps, 5) if isinstance(steps, int | float) else steps  # of many the time, not the outcome
    quiet(lambda: bothways.encode(FLOW, images, depth, steps))
    quiet(lambda: bothways.decode(FLOW, images, depth, steps))


@FEW
@given(images=PICTURES)
def test_predict_and_score_of_anything(images: Any) -> None:
    quiet(lambda: bothways.predict(MODEL, images))
    quiet(lambda: bothways.dsf_score(MODEL, images))


@FEW
@given(size=THINGS, mean=THINGS, std=THINGS, classes=THINGS)
def test_a_spec_of_anything(size: Any, mean: Any, std: Any, classes: Any) -> None:
    quiet(lambda: ModelSpec(size, mean, std, classes))


@FEW
@given(classes=THINGS, n=some.one_of(THINGS, some.integers(0, 2)), seed=THINGS, rms=THINGS)
def test_a_drawing_of_anything(classes: Any, n: Any, seed: Any, rms: Any) -> None:
    n = min(n, 2) if isinstance(n, int | float) else n
    quiet(lambda: bothways.generate(MODEL, classes, n=n, seed=seed, rms=rms, steps=1, recipe="pixels", judges=[]))


@FEW
@given(address=some.one_of(THINGS, some.text(max_size=12)))
def test_loading_of_anything(address: Any) -> None:
    for door in (bothways.load_model, bothways.load_flow, bothways.load_images):
        quiet(lambda door=door: door(address))
