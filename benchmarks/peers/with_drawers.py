"""lucent and Horama: seconds of a model call in a drawing of one class by EfficientNet-Lite0, all defaults of each.

What they draw is not the same, and is judged in docs/measured.md; here only the time is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from drawing import horama_fourier, lucent
from pairs import Work, main

import bothways

MODEL = "imagenet:efficientnet-lite0"
LABEL, CALLS, COPIES = 9, 24, 2  # ostrich; model calls of a drawing; copies of the picture in a step of ours


def works(small: bool) -> Iterator[Work]:
    model = bothways.load_model(MODEL)
    calls = 6 if small else CALLS
    for peer, module, draw in (("torch-lucent", "lucent", lucent), ("horama", "horama", horama_fourier)):
        if find_spec(module):  # each has an environment of its own
            yield Work(
                f"a model call of a drawing of 224 px, {calls} calls", peer, partial(draw, model, LABEL, calls, 0),
                partial(ours, model, calls), units=calls,
            )  # fmt: skip


def ours(model, calls: int):
    """The default drawing: the recipe ``photographs``."""
    return bothways.generate(
        model, [LABEL], n=1, recipe="photographs", seed=0, judges=[], **{"ascent.steps": calls // COPIES}
    ).images


if __name__ == "__main__":
    main(works)
