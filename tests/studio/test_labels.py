"""No message that a page can show names an option of the command line."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bothways
from bothways.studio.tabs.labels import COMMAND, CONTROLS, OF_A_TAB, in_words_of_the_page

OPTION = re.compile(r"--[a-zA-Z]")
OTHERS = 'in "Other settings"'


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("type --size 32 (size=32)", f"write size=32 {OTHERS} (size=32)"),
        ("type --layer NAME", f"write layer=NAME {OTHERS}"),
        ("type --judge bundled:cifar10-resnet", f"write judges=bundled:cifar10-resnet {OTHERS}"),
        ("type --set canvas.engine=explicit", f"write canvas.engine=explicit {OTHERS}"),
        ("type --recipe dsf", 'fill in "Recipe" with dsf'),
        ("leave --size out, or type --size 32", f"leave size {OTHERS} out, or write size=32 {OTHERS}"),
        ("type a smaller --batch, or --device cpu", f"write batch=... {OTHERS}, or device {OTHERS} cpu"),
        ("type a smaller --batch or --validation", f"write batch=... {OTHERS} or validation {OTHERS}"),
        ("not 3; type --data with more", 'not 3; fill in "Real pictures" with more'),
        ("type the command without --resume", 'type the command without "resume"'),
        ("stopped; type --resume to continue", "stopped; go on in a terminal"),
        ("type --overwrite to start again", "start a new run"),
        ("type bothways statistics M --data REAL --out x.json, or --data DIR",
         'type bothways statistics M --data REAL --out x.json, or "Real pictures"'),
    ],
)  # fmt: skip
def test_an_option_becomes_a_control(message: str, shown: str) -> None:
    assert in_words_of_the_page(message) == shown


def test_a_control_of_a_tab_has_its_own_label() -> None:
    assert in_words_of_the_page("type --data DIR and --steps 8", "walk") == 'fill in "Data" and "Steps each way" 8'


def _texts() -> set[str]:
    """Every text in the code below the page that names an option, with x where a value is filled in."""
    root, found = Path(bothways.__file__).parent, set()
    for file in root.rglob("*.py"):
        if "cli" in file.relative_to(root).parts or file.name == "labels.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {text for text in found if OPTION.search(text) and "\n" not in text}


def test_no_message_of_the_code_keeps_an_option() -> None:
    texts = _texts()
    assert len(texts) > 100
    kept = {text: COMMAND.sub("", in_words_of_the_page(text)) for text in texts}
    assert not {text: shown for text, shown in kept.items() if OPTION.search(shown)}


PAGE = """
import json, sys
from pathlib import Path
from bothways.studio.jobs import Jobs
from bothways.studio.page import build_page
from bothways.studio.shelf import Shelf
runs = Path(sys.argv[1])
jobs = Jobs(runs)
print(json.dumps([getattr(block, "label", None) for block in build_page(jobs, Shelf(runs), runs).blocks.values()]))
jobs.close()
"""


@pytest.mark.slow
def test_every_control_is_on_the_page(tmp_path: Path) -> None:
    """In a process of its own: the library leaves a loop of events behind."""
    pytest.importorskip("gradio", reason="gradio is not here")
    said = subprocess.run([sys.executable, "-c", PAGE, str(tmp_path)], capture_output=True, text=True, check=True)
    labels = set(json.loads(said.stdout.splitlines()[-1]))
    assert {*CONTROLS.values(), *(label for own in OF_A_TAB.values() for label in own.values())} <= labels
