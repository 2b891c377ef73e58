"""Libraries that would report their use are told not to: nothing is sent, and nothing about the machine is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bothways.processes.quiet import SETTINGS, keep_quiet

RUN = """
import sys, torch
from onnx import TensorProto, helper
from bothways.tasks.export.onnx import by_onnxruntime
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("images", "out")]
graph = helper.make_graph([helper.make_node("Neg", ["images"], ["out"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
assert torch.equal(by_onnxruntime(model.SerializeToString(), torch.ones(2, 3)), -torch.ones(2, 3))
"""


def test_onnxruntime_keeps_nothing_in_the_home(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    if find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed")
    of_ci = ("CI", "BUILD", "GITHUB", "TF_", "JENKINS", "PYTEST", "ORT_", "XDG_")  # where it sends nothing anyway
    environment = {name: value for name, value in os.environ.items() if not name.startswith(of_ci)}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [file for file in tmp_path.rglob("*") if "onnx" in file.name.lower() or "deviceid" in file.name]


def test_what_is_set_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:  # and put back after it
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    keep_quiet()
    assert {name: os.environ[name] for name in SETTINGS} == {**SETTINGS, "WANDB_ERROR_REPORTING": "true"}
