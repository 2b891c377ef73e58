"""`import bothways` stays light: what would make it slow is not loaded, and nothing outside is asked."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest

HEAVY = (
    "scipy.stats",
    "pandas",
    "pyarrow",
    "plotly",
    "transformers",
    "huggingface_hub",
    "timm",
    "open_clip",
    "gradio",
    "matplotlib",
    "torchvision",
    "IPython",
)

# The attempts are kept as well as refused: a library may swallow the refusal.
WATCHED_IMPORT = """
import json, socket, sys
attempts = []
def refuse(*arguments, **keywords):
    attempts.append(repr(arguments[1:] or arguments))
    raise OSError("no connection is made while importing")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
{statement}
print(json.dumps({{"loaded": sorted(sys.modules), "attempts": attempts}}))
"""


def watch(statement: str) -> tuple[set[str], list[str]]:
    """Run one statement in a fresh interpreter -> (names of the modules then loaded, connections attempted)."""
    program = WATCHED_IMPORT.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    return set(seen["loaded"]), seen["attempts"]


def test_import_loads_nothing_heavy_and_asks_nobody() -> None:
    loaded, attempts = watch("import bothways")
    assert "bothways" in loaded
    assert sorted(loaded.intersection((*HEAVY, "pydantic", "numpy"))) == []
    assert attempts == []


def test_the_catalogue_waits_for_no_library_of_models() -> None:
    loaded, attempts = watch("import bothways; bothways.load_model")
    assert "bothways.models.libraries.timm_models" in loaded
    assert sorted(loaded.intersection(HEAVY)) == []
    assert attempts == []


@pytest.mark.slow
def test_a_process_of_the_studio_and_an_interval_wait_for_no_heavy_library() -> None:
    loaded, attempts = watch(
        "from importlib import import_module\nimport torch\nfrom bothways.studio.child import IMPORTED_AHEAD\n"
        "for name in ('is_available', 'device_count', 'init', '_lazy_init'):\n"
        "    setattr(torch.cuda, name, lambda *a, name=name, **k: attempts.append(name))\n"
        "for module in IMPORTED_AHEAD:\n    import_module(module)\n"
        "import_module('bothways.numerics.intervals').mean_interval([1.0, 2.0])"
    )
    assert {"bothways.tasks.explain.run", "bothways.numerics.fill", "scipy.special"} <= loaded
    assert loaded.intersection(HEAVY) <= {"plotly"}  # the package alone; what draws is loaded with a chart
    assert "plotly.graph_objs" not in loaded
    assert sorted(loaded.intersection(("scipy.cluster", "scipy.ndimage", "scipy.sparse.linalg"))) == []
    assert attempts == []  # no GPU either: what has asked one cannot be forked


def test_help_waits_for_no_torch() -> None:
    said = "import bothways.cli\ntry:\n    bothways.cli.main(['--help'])\nexcept SystemExit:\n    pass"
    loaded, attempts = watch(said)
    assert "bothways.cli" in loaded
    assert sorted(loaded.intersection((*HEAVY, "torch"))) == []
    assert [name for name in loaded if name.startswith("bothways.tasks")] == []  # the registry has a line of each task
    assert attempts == []


def test_help_of_every_task_waits_for_no_torch() -> None:
    loaded, attempts = watch(
        "from bothways import registry\nfrom bothways.cli.commands import command_of\n"
        "[command_of(task) for task in registry.names('task')]"
    )
    assert "bothways.tasks.sample.config" in loaded
    assert sorted(loaded.intersection((*HEAVY, "torch"))) == []
    assert attempts == []


@pytest.mark.parametrize("module", ["bothways", "bothways.cli"])
def test_the_package_is_the_command(module: str) -> None:
    command = [sys.executable, "-m", module, "--show-completion", "bash"]  # typer's switch: bash, whatever calls us
    settings = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr
    assert "_BOTHWAYS_COMPLETE=complete_bash" in done.stdout
    assert "complete -o" in done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "socket.socket().connect(('127.0.0.1', 9))",
        "socket.socket().connect_ex(('127.0.0.1', 9))",
        "socket.create_connection(('127.0.0.1', 9))",
    ],
)
def test_the_watch_sees_a_connection(statement: str) -> None:
    swallowed = f"try:\n    {statement}\nexcept OSError:\n    pass"
    assert watch(swallowed)[1] != []


def test_the_watch_sees_a_heavy_module() -> None:
    stand_in = "import types; sys.modules['plotly'] = types.ModuleType('plotly')"
    assert watch(stand_in)[0].intersection(HEAVY) == {"plotly"}


def test_every_public_name_is_there() -> None:
    bothways = importlib.import_module("bothways")
    version = importlib.import_module("bothways.version")
    assert bothways.__version__ == version.__version__
    assert len(set(bothways.__all__)) == len(bothways.__all__)
    assert [name for name in bothways.__all__ if not hasattr(bothways, name)] == []
