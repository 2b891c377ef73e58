"""The one way to a model or a flow: an address (models/addresses.py), or a live module and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bothways.models.adapter import SPEC_LINES, Adapter
from bothways.models.addresses import LOAD_FLOW, read_classifier, read_flow, read_model
from bothways.models.catalogue import check_device, find_classifier, load_weights
from bothways.models.libraries.hub import Loaded
from bothways.models.velocity import Flow, check_flow
from bothways.types import ModelSpec, UserError, spec_of

FLOW_SPEC_LINES = (
    'state its facts: bothways.ModelSpec(size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, path="linear", '
    "time_scale=1000)"
)


def load_model(
    model: str | Path | nn.Module,
    spec: ModelSpec | Mapping[str, Any] | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Adapter:
    """A VisionModel from an address, or from a live module and its facts.

    model: "bundled:cifar10-resnet", "PATH.py:function", "timm:NAME", "hf:REPO_OR_FOLDER" and the others of
    ``bothways models``, a run of ``finetune``, or an ``nn.Module`` with ``spec``.
    spec: the facts, a ModelSpec or a dict of its fields, in place of those found. weights: a safetensors file that is
        loaded into the module.
    dtype: "float32", "bf16" or "float16" (autocast).
    Raises UserError where the address, the facts or the weights do not fit.
    """
    spec = spec_of(spec)
    if isinstance(model, nn.Module):
        if spec is None:
            raise UserError(f"load_model got a {type(model).__name__} without its facts; {SPEC_LINES}")
        found, name = Loaded(model, spec), type(model).__name__
    else:
        name = str(model)
        found = read_model(name, spec, weights is not None)
    if found.spec.path is not None:
        raise UserError(f"model {name!r} is a flow, its spec states a path; {LOAD_FLOW}")
    if weights is not None:
        load_weights(found.module, weights)
    check_device(device)
    return Adapter(found.module, spec or found.spec, name=name, device=device, dtype=dtype, text=found.text)


def load_classifier(
    run: str | Path, *, head: Any = None, path: Any = None, device: str = "cpu", dtype: str = "float32"
) -> Adapter:
    """The classifier that ``finetune`` wrote, as a model.

        outputs(image) = head(features(code(image))),   image (B,3,H,W) in [0,1] -> (B,K)

    run: the folder, the classifier.json in it, or "bundled:cifar10-prg". dtype: "float32", "bf16" or "float16", by
    autocast. head, path: those of the run, where they were Python functions and not names or addresses.
    Its flow is ``.module.flow``. ``load_model`` takes it too, beside all other addresses.
    Raises UserError where there is no such thing, or a part of it is missing or does not fit.
    """
    if find_classifier(run) is None:
        raise UserError(f"classifier {str(run)!r} does not exist; type the folder that bothways finetune wrote")
    if head is None and path is None:
        return load_model(run, device=device, dtype=dtype)
    check_device(device)
    found = read_classifier(str(run), head, path)
    return Adapter(found.module, found.spec, name=str(run), device=device, dtype=dtype)


def load_flow(
    flow: str | Path | nn.Module,
    spec: ModelSpec | Mapping[str, Any] | None = None,
    *,
    weights: str | Path | None = None,
    path: Any = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Flow:
    """A velocity field between noise and pictures from an address, or from a live module and its facts.

        dx/dt = v(x, t),   x ~ N(0, 1) at t = 0,   x = code(picture) at t = 1

    flow: a run of ``pretrain`` or ``finetune``, "bundled:NAME", "PATH.py:FUNCTION", "diffusers:REPO_OR_FOLDER",
        "torchcfm:FILE.pt", or an ``nn.Module`` of (x (B,C,H,W), time (B,)) with ``spec``; a Flow is handed back as it
        is, where it is. spec: the facts, in place of those found; it names the path.
    weights: a safetensors file that is loaded into the network. path: that of the run, where it was a Python function.
    dtype: "float32", "bf16" or "float16" (autocast).
    Raises UserError where the address, the facts or the weights do not fit, and for a classifier.
    """
    spec = spec_of(spec)
    if isinstance(flow, Flow):
        if spec is not None or weights is not None or path is not None:
            raise UserError(f"flow {flow.name!r} is loaded already; leave spec=, weights= and path= out")
        return flow
    if isinstance(flow, nn.Module):
        name = type(flow).__name__
        if spec is None:
            raise UserError(f"load_flow got a {name} without its facts; {FLOW_SPEC_LINES}")
        found = Loaded(flow, spec)
    else:
        name = str(flow)
        found = read_flow(name, spec, weights is not None)
    facts = spec or found.spec
    if facts.path is None:
        raise UserError(
            f"flow {name!r} has no path in its spec, as a classifier; type load_model, or {FLOW_SPEC_LINES}"
        )
    check_device(device)
    if weights is not None:
        load_weights(found.module, weights)
    loaded = Flow(found.module, facts, name, dtype=dtype, path=path or found.path).to(device).eval()
    check_flow(loaded)
    return loaded
