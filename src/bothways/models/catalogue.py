"""A model's address -> VisionModel. A new kind of address is one row in ``SCHEMES``, a new network one in ``BUILDERS``.

``bundled:NAME``       a small trained network that comes with the package
``PATH/NAME.json``     the card that ``bothways train`` wrote, its weights beside it (a flow's: ``bothways pretrain``)
``PATH.py:FUNCTION``   a user's own file, whose function returns (nn.Module, ModelSpec)
``timm:``, ``hf:``, ``clip:``, ``open_clip:``   models of other libraries, each in a file of its own here

A spec with a path is a flow's: ``load_flow`` (models/flows.py) reads the same cards and files.
Weights are safetensors; a pickle is refused, since reading one can run code.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways.models.adapter import SPEC_LINES, Adapter
from bothways.models.hub import Loaded
from bothways.models.nets.attention import AttentionNet
from bothways.models.nets.plain import PlainNet
from bothways.models.nets.points import PointNet
from bothways.models.nets.resnet import ResNet
from bothways.models.nets.unet import UNet
from bothways.models.open_clip_models import from_open_clip
from bothways.models.timm_models import from_timm
from bothways.models.transformers_models import from_clip, from_transformers
from bothways.types import ModelSpec, UserError

BUNDLED = Path(__file__).parent / "bundled"
SCALE = "_scale"
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet": ResNet,
    "plain": PlainNet,
    "attention": AttentionNet,
    "unet": UNet,
    "points": PointNet,
}
FLOW_SCHEMES = ("diffusers", "torchcfm")  # addresses that only load_flow reads
FLOW_CARD = "flow.json"  # in the folder of a pretrained flow
CLASSIFIER_CARD = "classifier.json"  # in that of a flow made a classifier
MADE_CLASSIFIER = "a flow made a classifier; type load_classifier for it, in Python"
LOAD_FLOW = "type load_flow for it, or a model that bothways models lists"


def bundled_names() -> list[str]:
    """The names behind ``bundled:`` of models that ``load_model`` takes."""
    return _bundled("model")


def bundled_flows() -> list[str]:
    """The names behind ``bundled:`` of flows."""
    return _bundled("flow")


def bundled_classifiers() -> list[str]:
    """The names behind ``bundled:`` of flows made classifiers, which ``load_classifier`` takes."""
    return _bundled("classifier")


def card(name: str) -> dict[str, Any]:
    """What is known of a bundled model: network, spec, data, accuracy with its interval, licence, limits."""
    if name not in _all_bundled():
        raise UserError(f"no bundled model {name!r}; {nearest(name, _all_bundled())}")
    return json.loads((BUNDLED / f"{name}.json").read_text())


def _all_bundled() -> list[str]:
    return sorted(path.stem for path in BUNDLED.glob("*.json"))


def _bundled(kind: str) -> list[str]:
    return [name for name in _all_bundled() if _kind(card(name)) == kind]


def _kind(facts: dict[str, Any]) -> str:
    """ "model", "flow", or "classifier": a card says what it is by what it holds."""
    if "features" in facts:
        return "classifier"
    return "model" if facts["spec"].get("path") is None else "flow"


def kept_statistics(address: str) -> dict[str, Tensor]:
    """What was measured on real images with a model that has a card: feature vectors, spreads of channel statistics."""
    if address.startswith("bundled:"):
        address = str(BUNDLED / f"{address.removeprefix('bundled:')}.json")
    path = Path(address).with_suffix(".statistics.safetensors")
    return read_statistics(path) if address.endswith(".json") and path.is_file() else {}


def read_statistics(path: Path) -> dict[str, Tensor]:
    """The tensors of a statistics file, as float32; one of eight bits times its ``NAME_scale``, a number a row.

    Raises UserError for what is none.
    """
    if not path.is_file():
        raise UserError(f"data {str(path)!r} does not exist; type the file that bothways statistics wrote, or pictures")
    try:
        found = {key: value.float() for key, value in load_file(path).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"data {str(path)!r} cannot be read as safetensors: {error}") from error
    scales = {key: found.pop(key) for key in list(found) if key.endswith(SCALE)}
    return {key: v * scales[key + SCALE][:, None] if key + SCALE in scales else v for key, v in found.items()}


def spec_from(facts: dict[str, Any]) -> ModelSpec:
    """The ModelSpec part of a card."""
    return ModelSpec(**{f.name: facts[f.name] for f in fields(ModelSpec) if f.name in facts})


def build_network(name: str, **options: Any) -> nn.Module:
    """A network of the catalogue with fresh weights."""
    if name not in BUILDERS:
        raise UserError(f"no network {name!r}; {nearest(name, BUILDERS)}")
    return BUILDERS[name](**options)


def load_model(
    model: str | Path | nn.Module,
    spec: ModelSpec | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Adapter:
    """A VisionModel from an address, or from a live module and its facts.

    model: "bundled:cifar10-resnet", "PATH.py:function", "timm:NAME", "hf:REPO_OR_FOLDER" and the others of
    ``bothways models``, or an ``nn.Module`` with ``spec``. spec: the facts, in place of those found.
    weights: a safetensors file that is loaded into the module.
    dtype: "float32", "bf16" or "float16" (autocast).
    Raises UserError where the address, the facts or the weights do not fit.
    """
    if isinstance(model, nn.Module):
        if spec is None:
            raise UserError(f"load_model got a {type(model).__name__} without its facts; {SPEC_LINES}")
        found, name = Loaded(model, spec), type(model).__name__
    else:
        name = str(model)
        found = _from_address(name, spec, weights is not None)
    if found.spec.path is not None:
        raise UserError(f"model {name!r} is a flow, its spec states a path; {LOAD_FLOW}")
    if weights is not None:
        load_weights(found.module, weights)
    check_device(device)
    return Adapter(found.module, spec or found.spec, name=name, device=device, dtype=dtype, text=found.text)


def load_weights(module: nn.Module, path: str | Path, part: str = "") -> None:
    """Load a safetensors file into a module, in the module's own precision. Raises UserError where it does not fit.

    part: what the names of the module's own weights begin with, in a file that holds more.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights {str(path)!r} do not exist; type the path of a .safetensors file")
    try:
        found = {key.removeprefix(part): value for key, value in load_file(path).items() if key.startswith(part)}
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(
            f"weights {str(path)!r} are not a safetensors file, and a pickle is never read, since it can run code; "
            "convert it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors')"
        ) from error
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in wanted]
    shapes = [
        f"{k} {tuple(found[k].shape)} for {tuple(wanted[k].shape)}"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ]
    if missing or extra or shapes:
        parts = [f"{what}: {', '.join(keys[:3])}" for what, keys in _differences(missing, extra, shapes) if keys]
        raise UserError(f"weights {str(path)!r} do not fit the model ({'; '.join(parts)}); give the file made for it")
    module.load_state_dict(found, strict=False)


def check_device(device: str) -> None:
    """Raise UserError for a device that torch does not have."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {device!r} is not to be had here ({str(error).splitlines()[0]}); type --device cpu"
        ) from error


def from_bundled(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """What a bundled card describes."""
    if _kind(card(name)) == "classifier":  # an unknown name is refused with the nearest
        raise UserError(f"model 'bundled:{name}' is {MADE_CLASSIFIER}")
    return from_card(BUNDLED / f"{name}.json", fresh)


def from_card(path: Path, fresh: bool = False) -> Loaded:
    """The network and the facts of a card. fresh: without the weights beside it, for those that are given."""
    if not path.is_file():
        raise UserError(
            f"model card {str(path)!r} does not exist; type the .json file that bothways train or pretrain wrote"
        )
    try:
        facts = json.loads(path.read_text())
        module, spec = build_network(**facts["network"]), spec_from(facts["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"model card {str(path)!r} cannot be used: {type(error).__name__}: {error}") from error
    if not fresh:
        load_weights(module, path.with_suffix(".safetensors"))
    return Loaded(module, spec)


SCHEMES: dict[str, Callable[[str, ModelSpec | None, bool], Loaded]] = {
    "bundled": from_bundled,
    "timm": from_timm,
    "hf": from_transformers,
    "clip": from_clip,
    "open_clip": from_open_clip,
}
"""what stands before the colon -> (the rest, the facts if given, whether weights follow) -> what is there"""


def _from_address(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    scheme, _, rest = address.partition(":")
    if scheme in SCHEMES:
        return SCHEMES[scheme](rest, spec, fresh)
    if scheme in FLOW_SCHEMES or (Path(address) / FLOW_CARD).is_file():
        raise UserError(f"model {address!r} is the address of a flow; {LOAD_FLOW}")
    if (Path(address) / CLASSIFIER_CARD).is_file():
        raise UserError(f"model {address!r} is {MADE_CLASSIFIER}")
    if address.endswith(".json"):
        return from_card(Path(address), fresh)
    if (found := from_file(address)) is not None:
        return found
    known = [f"bundled:{name}" for name in bundled_names()]
    raise UserError(f"model {address!r} is not known; {nearest(address, known)}, or PATH.py:FUNCTION for your own")


def from_file(address: str) -> Loaded | None:
    """What the function of a user's file returns, for PATH.py:FUNCTION; None for another kind of address."""
    place, _, function = address.rpartition(":")
    if address.endswith(".py"):
        raise UserError(f"model {address!r} names a file but no function; type {address}:FUNCTION")
    if not place.endswith(".py"):
        return None
    path = Path(place)
    if not path.is_file():
        raise UserError(f"model file {str(path)!r} does not exist; type PATH.py:FUNCTION")
    described = importlib.util.spec_from_file_location(f"bothways_user_{path.stem}", path)
    assert described is not None
    assert described.loader is not None
    file = importlib.util.module_from_spec(described)
    sys.modules[described.name] = file  # dataclasses and pickling of the user's classes look it up
    try:
        described.loader.exec_module(file)
    except Exception as error:
        raise UserError(f"model file {str(path)!r} fails when it is read: {type(error).__name__}: {error}") from error
    build = getattr(file, function, None)
    if not callable(build):
        own = [n for n, v in vars(file).items() if callable(v) and getattr(v, "__module__", "") == described.name]
        raise UserError(f"model file {str(path)!r} has no function {function!r}; {nearest(function, own)}")
    try:
        built = build()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}:{function} fails: {type(error).__name__}: {error}") from error
    if not (
        isinstance(built, tuple)
        and len(built) == 2
        and isinstance(built[0], nn.Module)
        and isinstance(built[1], ModelSpec)
    ):
        raise UserError(
            f"{path}:{function} must return (module, spec), a model without a spec is refused; {SPEC_LINES}"
        )
    return Loaded(*built)


def _differences(missing: list[str], extra: list[str], shapes: list[str]) -> list[tuple[str, list[str]]]:
    return [("missing in the file", missing), ("not in the model", extra), ("of another shape", shapes)]


def nearest(word: str, known: Any) -> str:
    """What was probably meant."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.4) or sorted(known)
    return f"type {', '.join(near)}" if near else "there is none"
