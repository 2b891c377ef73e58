"""A model's address -> VisionModel. A new kind of address is one row in ``SCHEMES``, a new network one in ``BUILDERS``.

``bundled:NAME``       a small trained network that comes with the package
``PATH/NAME.json``     the card that ``bothways train`` wrote, its weights beside it
``PATH.py:FUNCTION``   a user's own file, whose function returns (nn.Module, ModelSpec)
``timm:``, ``hf:``, ``clip:``, ``open_clip:``   models of other libraries, each in a file of its own here

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
from bothways.models.attention import AttentionNet
from bothways.models.hub import Loaded
from bothways.models.open_clip_models import from_open_clip
from bothways.models.plain import PlainNet
from bothways.models.resnet import ResNet
from bothways.models.timm_models import from_timm
from bothways.models.transformers_models import from_clip, from_transformers
from bothways.types import ModelSpec, UserError

BUNDLED = Path(__file__).parent / "bundled"
SCALE = "_scale"
BUILDERS: dict[str, Callable[..., nn.Module]] = {"resnet": ResNet, "plain": PlainNet, "attention": AttentionNet}


def bundled_names() -> list[str]:
    """The names behind ``bundled:``."""
    return sorted(path.stem for path in BUNDLED.glob("*.json"))


def card(name: str) -> dict[str, Any]:
    """What is known of a bundled model: network, spec, data, accuracy with its interval, licence, limits."""
    if name not in bundled_names():
        raise UserError(f"no bundled model {name!r}; {_nearest(name, bundled_names())}")
    return json.loads((BUNDLED / f"{name}.json").read_text())


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
        raise UserError(f"no network {name!r}; {_nearest(name, BUILDERS)}")
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
    if weights is not None:
        load_weights(found.module, weights)
    check_device(device)
    return Adapter(found.module, spec or found.spec, name=name, device=device, dtype=dtype, text=found.text)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a safetensors file into a module, in the module's own precision. Raises UserError where it does not fit."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights {str(path)!r} do not exist; type the path of a .safetensors file")
    try:
        found = load_file(path)
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


def _from_bundled(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    card(name)  # an unknown name is refused with the nearest
    return _from_card(BUNDLED / f"{name}.json")


def _from_card(path: Path) -> Loaded:
    if not path.is_file():
        raise UserError(f"model card {str(path)!r} does not exist; type the .json file that bothways train wrote")
    try:
        facts = json.loads(path.read_text())
        module, spec = build_network(**facts["network"]), spec_from(facts["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"model card {str(path)!r} cannot be used: {type(error).__name__}: {error}") from error
    load_weights(module, path.with_suffix(".safetensors"))
    return Loaded(module, spec)


SCHEMES: dict[str, Callable[[str, ModelSpec | None, bool], Loaded]] = {
    "bundled": _from_bundled,
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
    if address.endswith(".json"):
        return _from_card(Path(address))
    path, _, function = address.rpartition(":")
    if path.endswith(".py"):
        return _from_file(Path(path), function)
    if address.endswith(".py"):
        raise UserError(f"model {address!r} names a file but no function; type {address}:FUNCTION")
    known = [f"bundled:{name}" for name in bundled_names()]
    raise UserError(f"model {address!r} is not known; {_nearest(address, known)}, or PATH.py:FUNCTION for your own")


def _from_file(path: Path, function: str) -> Loaded:
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
        raise UserError(f"model file {str(path)!r} has no function {function!r}; {_nearest(function, own)}")
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


def _nearest(word: str, known: Any) -> str:
    """What was probably meant."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.4) or sorted(known)
    return f"type {', '.join(near)}" if near else "there is none"
