"""The settings of ``explain``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import field_validator

from bothways.configs import Config, Live, Several, setting
from bothways.data.config import COMPARED
from bothways.registry import register
from bothways.types import UserError

REAL_AT_LEAST = 10  # real pictures of a class, for a mean and a variance
LIMIT = re.compile(r"(consistency|entanglement)>(\d+\.?\d*|\.\d+)")


def read_limits(texts: Sequence[str]) -> list[tuple[str, float]]:
    """["consistency>2"] -> [("consistency", 2.0)]. Raises UserError for anything else."""
    found = []
    for text in texts:
        match = LIMIT.fullmatch(text.replace(" ", ""))
        if match is None:
            raise UserError(f"--fail-on {text!r}: type consistency>X or entanglement>X, such as 'consistency>2'")
        found.append((match[1], float(match[2])))
    return found


@register("task", "explain", help="Audit a classifier: what its portraits of a class share that real pictures do not.")
class ExplainConfig(Config):
    """Audit a classifier: what its portraits of a class share that real pictures do not, and what else is in them.

    Portraits of every class are drawn from several seeds by two recipes, and held to labelled real pictures. The page
    shows them with the parts that carry the evidence, the classes whose portraits agree on something the data lack (a
    mark, a tint, a background), and pairs of classes that are seen in one another. The data must not hold the shortcut.

    Examples
    bothways explain bundled:cifar10-resnet --data path/to/cifar10
    bothways explain my.py:build --classes tench 'great white shark' goldfish --data photos/ --n 4 --out runs/fish
    bothways explain bundled:cifar10-resnet --data path/to/cifar10 --json --fail-on 'consistency>2' > audit.json
    """

    model: Live = setting(..., "The model's address.", argument=True)
    data: Live = setting(..., "labelled real pictures (parquet or folder)", common=True)
    classes: Several | None = setting(
        None, "names or numbers, three or more; none for all of a model of up to 20", common=True
    )
    n: int = setting(6, "portraits of each class and recipe", ge=2, flags=("--n", "-n"), common=True)
    real: int = setting(100, "real pictures of each class at most", ge=REAL_AT_LEAST, common=True)
    seed: int = setting(0, "of the portraits", ge=0, common=True)
    steps: int | None = setting(None, "ascent steps of each portrait; none for the recipes' own", ge=1, common=True)
    judges: Several | None = setting(
        None, "models that look for other classes too; none for the bundled ones with the same classes",
        flags=("--judge",), common=True,
    )  # fmt: skip
    hide_data: bool = setting(False, "leave the data's pictures out of the page", common=True)
    fail_on: Several | None = setting(
        None, "exit with code 1 where a class exceeds it: consistency>X, entanglement>X", common=True
    )
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, COMPARED, common=True)

    @field_validator("fail_on")
    @classmethod
    def _of_known_measures(cls, given: list[str] | None) -> list[str] | None:
        read_limits(given or ())
        return given
