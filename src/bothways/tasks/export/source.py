"""The text of the files that come with exported weights: model.py, which needs no bothways, and README.md.

model.py is made of the package's own source: the class of standalone.py, the network, the head and the solver's step.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bothways.models.nets import unet
from bothways.representation.heads import prg
from bothways.representation.tuning.targets import CLASS, NUMBERS, SEVERAL
from bothways.tasks.export import standalone
from bothways.version import __version__

TOP = '''"""{title}

    model = load("{folder}")    # the folder of this file
    model(images)               # (B,3,{height},{width}) in [0,1] -> {gives}

Written by bothways {version}. It needs torch and safetensors, and no bothways.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

UserError = ValueError
'''

LOAD = '''
def load(folder=Path(__file__).parent):
    """The module of a folder with config.json and model.safetensors, in eval mode."""
    from safetensors.torch import load_file

    facts = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    weights = load_file(Path(folder) / "model.safetensors")
    model = Exported(UNet(**facts["network"]), {head}, facts, {step}, noise=weights.get("noise"))
    model.load_state_dict(weights)
    return model.eval()
'''

HEADS = {
    "prg": 'PRGHead(facts["width"], facts["outputs"])',
    "linear": 'nn.Linear(facts["width"], facts["outputs"])',
}
README = """---
library_name: pytorch
pipeline_tag: {tag}
tags: [flow-matching, bothways]
---

# {title}

{what} It was made by bothways {version} and loads without it:

```python
from model import load  # model.py of this folder; it needs torch and safetensors

model = load()
model(images)  # (B,3,{height},{width}) in [0,1] -> {gives}
```

Pictures are resized by their shorter side and cut to {height}x{width} ({interpolation}).{classes}
"""
OF_HEADS = {  # target: (what it is, what its outputs are called, the tag of the hub)
    CLASS: ("A generative flow as a classifier of pictures.", "Classes", "image-classification"),
    SEVERAL: ("A generative flow that tells which labels pictures have.", "Labels", "image-classification"),
    NUMBERS: ("A generative flow that tells numbers of pictures.", "Numbers", "other"),
}
OF_FEATURES = ("Features of pictures by a flow.", "", "image-feature-extraction")


def module_text(facts: Mapping[str, Any], title: str, folder: str, solver: Any) -> str:
    """The text of model.py. solver: of one step, of the package, for a walk; None without."""
    height, width = facts["size"]
    title, folder = (text.replace("\\", "/").replace(chr(34), chr(39)) for text in (title, folder))  # in a docstring
    top = TOP.format(title=title, folder=folder, height=height, width=width, gives=gives(facts), version=__version__)
    parts = [top, body_of(unet), body_of(prg) if facts["head"] == "prg" else "", body_of(standalone)]
    if solver is not None:
        parts.append(without_decorators(inspect.getsource(inspect.unwrap(solver.step))))
    head = HEADS[facts["head"]] if facts["head"] else "None"
    step = "None" if solver is None else inspect.unwrap(solver.step).__name__
    return "\n\n".join(part.strip() for part in [*parts, LOAD.format(head=head, step=step)] if part) + "\n"


def body_of(module: Any) -> str:
    """The source of a module without its docstring, its imports and the decorators of classes."""
    text = inspect.getsource(module)
    lines, left = text.splitlines(), set[int]()
    for place, node in enumerate(ast.parse(text).body):
        docstring = place == 0 and isinstance(node, ast.Expr)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            left |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
        for mark in getattr(node, "decorator_list", []):
            left |= set(range(mark.lineno - 1, mark.end_lineno or mark.lineno))
    return "\n".join(line for place, line in enumerate(lines) if place not in left)


def without_decorators(text: str) -> str:
    """A function as plain text."""
    lines = text.splitlines()
    return "\n".join(lines[next(place for place, line in enumerate(lines) if line.startswith("def ")) :])


def gives(facts: Mapping[str, Any]) -> str:
    """What the module returns, in words."""
    if facts["head"] is None:
        return f"(B,{facts['outputs']}) features"
    logits = "logits, whose sigmoid is the probability of each label" if facts["target"] == SEVERAL else "logits"
    return f"(B,{facts['outputs']}) {'numbers' if facts['target'] == NUMBERS else logits}"


def readme_text(facts: Mapping[str, Any], title: str) -> str:
    """The text of README.md."""
    height, width = facts["size"]
    what, called, tag = OF_HEADS[facts["target"]] if facts["head"] else OF_FEATURES
    names: Sequence[str] | int = facts["classes"] or 0
    listed = json.dumps(list(names), ensure_ascii=False)[1:-1] if isinstance(names, list | tuple) else ""
    return README.format(
        title=title, what=what, version=__version__, height=height, width=width, gives=gives(facts), tag=tag,
        classes=f" {called}, in order: {listed}." if listed else "", interpolation=facts["interpolation"],
    )  # fmt: skip
