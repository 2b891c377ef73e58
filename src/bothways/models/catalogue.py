"""Bundled models, model cards (JSON beside safetensors) and network builders; a new network is a row in ``BUILDERS``.

Weights are safetensors; a pickle is refused, since reading one can run code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from bothways import budget, registry
from bothways.models.cards import BUNDLED, CLASSIFIER_CARD, Card, bundled_classifiers, read_card
from bothways.models.libraries.hub import Loaded
from bothways.models.nets.attention import AttentionNet
from bothways.models.nets.own import own_network
from bothways.models.nets.plain import PlainNet
from bothways.models.nets.points import PointNet
from bothways.models.nets.resnet import ResNet
from bothways.models.nets.sit import SiT
from bothways.models.nets.unet import UNet
from bothways.models.weights import load_weights, read_tensors
from bothways.numerics.precision import computes_in
from bothways.progress import Beforehand
from bothways.reading import at_home, is_there, used
from bothways.registry import nearest
from bothways.types import ModelSpec, UserError, VisionModel

SCALE = "_scale"
STATISTICS = ".statistics.safetensors"
PROSE = ("classes", "data", "name")  # entries of a card that are words
PREPROCESSING = ("height", "width", "mean", "std", "channel_order")
COUNTED = ("blocks", "depths", "depth")  # options that count layers
LAYERS_AT_MOST, WIDEST = 1000, 2**20
MADE_BY = "recipe"  # the settings of its training, which it does not need any more
OWN = "own"  # the network of a user's own file, by its address
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet": ResNet,
    "plain": PlainNet,
    "attention": AttentionNet,
    "unet": UNet,
    "points": PointNet,
    "sit": SiT,
}


def kept_statistics(address: str) -> dict[str, Tensor]:
    """Stored image statistics of a model with a card or in a package: features, spreads of statistics; {} if none."""
    path = statistics_file(address)
    return {} if path is None else read_statistics(path)


def kept_with(model: VisionModel) -> dict[str, Tensor]:
    """``kept_statistics`` of a loaded model; {} where its weights or preprocessing are others than those of its card.

    Whose those of a packaged network are, which has no card, its file says (tasks/statistics/files.py).
    """
    path = statistics_file(model.name)
    return {} if path is None or not _is_of_card(model, path) else read_statistics(path)


def _is_of_card(model: VisionModel, statistics: Path) -> bool:
    weights, card = (
        statistics.with_name(statistics.name.removesuffix(STATISTICS) + suffix) for suffix in (".safetensors", ".json")
    )
    if not (is_there(weights) and is_there(card)):
        return True
    stated, own = spec_from(read_facts(card, Card)["spec"]), model.spec
    if any(getattr(stated, fact) != getattr(own, fact) for fact in PREPROCESSING):
        return False
    held = model.module.state_dict()  # type: ignore[attr-defined]
    return all(
        key in held and torch.equal(held[key].cpu(), value.to(held[key].dtype))
        for key, value in read_tensors(weights, "weights").items()
    )


def statistics_file(address: str) -> Path | None:
    """The file of image statistics beside a card, or in the package for a packaged network; None if there is none."""
    if address.startswith("imagenet:"):
        path = BUNDLED / f"{address.replace(':', '-')}{STATISTICS}"
    else:
        if address.startswith("bundled:"):
            address = str(BUNDLED / f"{address.removeprefix('bundled:')}.json")
        if not address.endswith(".json"):
            return None
        path = Path(address).with_suffix(STATISTICS)
    return path if is_there(path) else None


def read_statistics(path: Path) -> dict[str, Tensor]:
    """Tensors of a statistics file as float32; 8-bit ones are multiplied by their row scales ``NAME_scale``.

    Raises UserError for any other file.
    """
    if not is_there(path):
        raise UserError(f"data {str(path)!r} does not exist; type a file of bothways statistics, or pictures")
    return dequantised(read_tensors(path, "data"), str(path))


def dequantised(found: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a statistics file, as ``read_statistics`` gives them. name: of the file, for messages."""
    for key, value in found.items():
        if value.is_complex() or not bool(torch.isfinite(value.float()).all()):
            raise UserError(f"data {name!r}: {key} holds values that are not finite; measure it again")
    found = {key: value.float() for key, value in found.items()}
    scales = {key: found.pop(key) for key in list(found) if key.endswith(SCALE)}
    for key, scale in scales.items():
        rows = found.get(key.removesuffix(SCALE))
        if rows is None or scale.shape != rows.shape[:1]:
            raise UserError(f"data {name!r}: {key} {tuple(scale.shape)} scales no rows; measure it again")
    return {key: v * scales[key + SCALE][:, None] if key + SCALE in scales else v for key, v in found.items()}


def spec_from(facts: dict[str, Any]) -> ModelSpec:
    """ModelSpec from the entries of a card."""
    return ModelSpec(**{f.name: facts[f.name] for f in fields(ModelSpec) if f.name in facts})


def build_network(name: str, **options: Any) -> nn.Module:
    """Build a network of the catalogue with initial weights.

    Raises UserError for an unknown name, for numbers beyond those of any network, and for more memory than is free.
    """
    if name == OWN:
        return own_network(**options)
    if name not in BUILDERS:
        raise UserError(f"no network {name!r}; {nearest(name, BUILDERS)}")
    check_options(name, options)
    with torch.device("meta"):  # of which only the sizes are made
        need = sum(value.nbytes for value in BUILDERS[name](**options).state_dict().values())
    budget.check_memory(f"network {name!r}", need, "give it smaller options")
    return BUILDERS[name](**options)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise UserError for options of more layers, or of other numbers, than any network has."""
    for option, given in options.items():
        numbers = given if isinstance(given, list | tuple) else [given]
        most = LAYERS_AT_MOST if option in COUNTED else WIDEST
        known = all(one is None or isinstance(one, int | float) for one in numbers)
        if not known or len(numbers) > LAYERS_AT_MOST or not all(0 <= (one or 0) <= most for one in numbers):
            raise UserError(f"network {name!r}: {option}={str(given)[:80]}; type numbers from 0 to {most}")


def check_device(device: str, dtype: object = "float32") -> None:
    """Raise UserError for a device that torch does not have; warn of a precision that it has no arithmetic for."""
    if str(device).partition(":")[0] == "meta":
        raise UserError('device "meta" holds no numbers, so that nothing can be computed there; type --device cpu')
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {device!r} is not available ({str(error).splitlines()[0]}); type --device cpu"
        ) from error
    if not computes_in(dtype, device):
        warnings.warn(
            f"device {device} has no arithmetic in {dtype}, which takes several times as long as float32 here; type "
            "--dtype float32, of a training --no-bf16",
            Beforehand,
            stacklevel=3,
        )


def find_classifier(address: str | Path) -> Path | None:
    """Card file of a flow-based classifier, by its run folder, file or bundled address; None for any other address."""
    if not isinstance(address, str | Path):  # an object of the caller's
        return None
    scheme, _, name = str(address).partition(":")
    if scheme == "bundled":
        return BUNDLED / f"{name}.json" if name in bundled_classifiers() else None
    path = at_home(address)
    path = path / CLASSIFIER_CARD if path.name != CLASSIFIER_CARD else path
    return path if is_there(path) else None


def read_facts(file: Path, schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON of a card, with the addresses of Python files where they are now: there, or beside the card.

    Raises UserError if it names Python code that may not run or is not there, and if it is not as the schema says.
    """
    facts = read_card(file, schema)
    needed = {key: value for key, value in facts.items() if key not in PROSE}
    placed = {key: registry.with_addresses(value, partial(_placed, file, key), PROSE) for key, value in needed.items()}
    return {**facts, **placed}


def _placed(file: Path, key: str, address: str) -> str:
    """Where the Python file of an address of a card is: there, or beside the card. key: the entry of the card."""
    place, name = registry.address_parts(address)
    beside, there = file.parent / Path(place).name, at_home(place).is_file()
    here = f"{beside}:{name}" if not there and beside.is_file() else address
    registry.refuse_code(here, str(file))
    if not there and here == address and key != MADE_BY:
        raise UserError(f"{file} needs {place}, which does not exist; put the file there, or into {file.parent}")
    return here


def from_card(path: Path, fresh: bool = False) -> Loaded:
    """Load the network and spec of a card. fresh: without its weights, for the caller's."""
    if not is_there(path):
        raise UserError(f"model card {str(path)!r} does not exist; type the .json file of bothways train or pretrain")
    facts = read_facts(path, Card)
    with used(path, named=True):
        spec, module = spec_from(facts["spec"]), build_network(**facts["network"])
    if not fresh:
        load_weights(module, path.with_suffix(".safetensors"))
    return Loaded(module, spec)


def spec_of(given: ModelSpec | Mapping[str, Any] | None) -> ModelSpec | None:
    """The facts of a model, of a ModelSpec or of a mapping of its fields; None for none. Raises UserError for else."""
    if given is None or isinstance(given, ModelSpec):
        return given
    if not isinstance(given, Mapping):
        raise UserError(f"spec is a {type(given).__name__}; give a ModelSpec, or a dict of its fields")
    known = {one.name: one.default is MISSING for one in fields(ModelSpec)}
    wrong = [str(name) for name in given if name not in known]
    missing = [name for name, needed in known.items() if needed and name not in given]
    if wrong or missing:
        told = f"a field {wrong[0]!r}" if wrong else f"no field {missing[0]!r}"
        raise UserError(f"spec has {told}; the fields of a ModelSpec are {', '.join(known)}")
    return ModelSpec(**given)
