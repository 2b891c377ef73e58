"""The settings of ``explain``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import field_validator

from bothways.brief import shown
from bothways.configs import Config, Live, Several, setting
from bothways.data.config import COMPARED
from bothways.registry import register
from bothways.tasks.generate.config import PHOTOGRAPHS
from bothways.types import UserError

SMALL = ("icons", "das")  # recipes of the portraits
LARGE = ("photographs",)  # of a network of photographs, where the two above draw nothing that can be named
REAL_AT_LEAST = 10  # real pictures per class, to estimate mean and variance
LIMIT = re.compile(r"(consistency|entanglement)>(\d+\.?\d*|\.\d+)")


def read_limits(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Parse limits: ["consistency>2"] -> [("consistency", 2.0)]. Raises UserError for invalid ones."""
    found = []
    for text in texts:
        match = LIMIT.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
        if match is None:
            raise UserError(f"--fail-on {shown(text)}: type consistency>X or entanglement>X, such as 'consistency>2'")
        found.append((match[1], float(match[2])))
    return found


@register("task", "explain", help="Audit a classifier for shortcuts, by portraits of its classes.")
class ExplainConfig(Config):
    """Audit a classifier for shortcuts: what its portraits of a class share and real pictures lack.

    Portraits of every class are drawn with several seeds by each recipe and compared with labelled real pictures. The
    report shows the portraits with the regions that carry the evidence, ranks the classes by how consistently their
    portraits share a feature that the data lack (a mark, a tint, a background), and lists pairs of classes that are
    recognised in each other's portraits. The data must not contain the shortcut.

    Examples
    bothways explain bundled:cifar10-resnet --data path/to/cifar10
    bothways explain my.py:build --classes tench 'great white shark' goldfish --data photos/ --n 4 --out runs/fish
    bothways explain bundled:cifar10-resnet --data path/to/cifar10 --json --fail-on 'consistency>2' > audit.json
    """

    gives: ClassVar[str] = "a dict, the content of measures['audit']: classes, portraits and pairs of classes"

    model: Live = setting(..., "Address of the model (see bothways models).", argument=True)
    data: Live = setting(..., "labelled real pictures (parquet or folder)", common=True)
    classes: Several | None = setting(
        None, "three or more classes, by name or number; if unset, all of a model of up to 20", common=True
    )
    recipes: Several | None = setting(
        None, f"recipes of the portraits; if unset, {' and '.join(SMALL)}, and of a network with a linear head that "
        f"takes {PHOTOGRAPHS} pixels or more, {' and '.join(LARGE)}",
        common=True,
    )  # fmt: skip
    n: int = setting(6, "portraits per class and recipe", ge=2, flags=("--n", "-n"), common=True)
    real: int = setting(100, "maximum number of real pictures per class", ge=REAL_AT_LEAST, common=True)
    seed: int = setting(0, "random seed of the portraits", ge=0, common=True)
    steps: int | None = setting(None, "ascent steps per portrait; if unset, those of the recipes", ge=1, common=True)
    judges: Several | None = setting(
        None, "further models that look for other classes; if unset, bundled models with the same classes",
        flags=("--judge",), common=True,
    )  # fmt: skip
    hide_data: bool = setting(False, "omit the real pictures from the report", common=True)
    fail_on: Several | None = setting(
        None, "exit with code 1 if a class exceeds a limit: consistency>X, entanglement>X", common=True
    )
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    preprocess: Literal["model", "ours"] = setting(
        "model", "pictures are resized: model, as its facts state; ours, the shorter side to the size, bicubic"
    )
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, COMPARED, common=True)

    @field_validator("fail_on")
    @classmethod
    def _of_known_measures(cls, given: list[str] | None) -> list[str] | None:
        read_limits(given or ())
        return given
