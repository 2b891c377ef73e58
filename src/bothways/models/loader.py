"""Loading of models, classifiers and flows from an address (models/addresses.py) or a live module."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.random import fork_rng

from bothways import registry
from bothways.brief import stand_in
from bothways.faults import check_kinds
from bothways.models.adapter import SPEC_LINES, Adapter
from bothways.models.addresses import LOAD_FLOW, LOAD_MODEL, built_by, read_classifier, read_flow, read_model
from bothways.models.calls import check_held
from bothways.models.catalogue import check_device, find_classifier, spec_of
from bothways.models.classifiers import Classifier
from bothways.models.libraries.hub import Loaded, Text
from bothways.models.libraries.latents import Latents
from bothways.models.velocity import Flow, check_flow
from bothways.models.weights import load_weights
from bothways.numerics.modules import class_of, set_eval, unwrapped
from bothways.progress import stage
from bothways.registry import name_of
from bothways.representation.paths import path_of
from bothways.types import ModelSpec, UserError

FLOW_SPEC_LINES = (
    'state its facts: bothways.ModelSpec(size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, path="linear", '
    "time_scale=1000)"
)


@stage("loading models")
def load_model(
    model: str | Path | nn.Module | Callable[[], Any] | Adapter,
    spec: ModelSpec | Mapping[str, Any] | None = None,
    *,
    weights: str | Path | None = None,
    text: Text | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Adapter:
    """Load a VisionModel from an address, or wrap a live module with its ModelSpec.

    model: "bundled:cifar10-resnet", "PATH.py:function", "timm:NAME", "hf:REPO_OR_FOLDER" and the others of
    ``bothways models``, a run of ``finetune``, or what it or ``train`` gave, a function that returns (module, spec) as
    that of a file does, or an ``nn.Module`` with ``spec``. One that is loaded already is returned as it is.
    spec: a ModelSpec or a dict of its fields, overrides the model's own. weights: a safetensors file that is loaded
        into the module.
    text: encodes prompts, a list of P strings -> (P,D) in the space of the module's outputs, for a module that has such
        a thing; overrides the model's own.
    dtype: "float32", "bf16" or "float16" (autocast).
    Raises UserError if the address, the spec or the weights do not fit.
    """
    model = stand_in(model)
    if isinstance(model, Classifier) and spec is None and weights is None and text is None:
        return model.adapter
    if isinstance(model, Adapter):
        if spec is not None or weights is not None or text is not None:
            raise UserError(f"model {model.name!r} is loaded already; give spec=, weights= and text= to load_model")
        return model
    if isinstance(model, Flow):
        raise UserError(
            f"{model.name!r} is loaded as a flow, and a model is needed; type load_model for one, or a task of flows"
        )
    spec = spec_of(spec)
    if text is not None and not callable(text):
        raise UserError(f"text is a {type(text).__name__}; give a function of a list of prompts -> (P,D)")
    if isinstance(model, nn.Module):
        if spec is None:
            raise UserError(f"load_model got a {type(model).__name__} without a ModelSpec; {SPEC_LINES}")
        found, name = _live(model, spec)
    elif callable(model):  # what it returns may be its owner's still, and keeps its mode
        name = name_of(model)
        found = built_by(name, model)
    else:
        check_kinds("load_model", model=(model, (str, Path, nn.Module, Callable)))
        name = str(model)
        with fork_rng(devices=[]):  # a network draws weights of its own before it is given those of the file
            found = read_model(name, spec, weights is not None)
        set_eval(found.module)
    if found.spec.path is not None:
        raise UserError(f"model {name!r} is a flow, since its spec has a path; {LOAD_FLOW}")
    if weights is not None:
        load_weights(found.module, weights, say=True)
    check_device(device, dtype)
    made = Adapter(found.module, spec or found.spec, name=name, device=device, dtype=dtype, text=text or found.text)
    made.typed = shlex.quote(name) + (f" --weights {shlex.quote(str(weights))}" if weights is not None else "")
    return made


def told_apart(models: Sequence[Adapter]) -> list[Adapter]:
    """The models, where two of one name are there the later as a copy called "NAME (2)": by names they are counted."""
    found: dict[str, Adapter] = {}
    for model in models:
        name, count = model.name, 1
        while name in found:
            count += 1
            name = f"{model.name} ({count})"
        found[name] = model if name == model.name else copy.copy(model)
        found[name].name = name
    return list(found.values())


def load_classifier(
    run: str | Path,
    *,
    head: Any = None,
    path: Any = None,
    solver: Any = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Classifier:
    """Load the classifier of a run of ``finetune`` as a torch module in eval mode, which is a VisionModel too.

        classifier(image) = head(features(code(image))),   image (B,3,H,W) in [0,1] -> logits (B,K)

    run: the folder, the classifier.json in it, or "bundled:cifar10-prg". dtype: "float32", "bf16" or "float16", by
    autocast. head, path, solver: those of the run, if they were Python objects and not names or addresses.
    Its flow is ``.module.flow``. ``load_model`` accepts the same addresses.
    Raises UserError if it does not exist, or if a part of it is missing or does not fit.
    """
    parts = {"head": head, "path": path, "solver": solver}
    return Classifier(adapted_classifier(run, parts, device=device, dtype=dtype))


def adapted_classifier(run: str | Path, parts: Mapping[str, Any] | None = None, **options: Any) -> Adapter:
    """``load_classifier`` as a VisionModel alone. parts: its head, path and solver; options: its device and dtype."""
    run = stand_in(run)
    check_kinds("load_classifier", run=(run, (str, Path)))
    if find_classifier(run) is None:
        raise UserError(f"classifier {str(run)!r} does not exist; type the folder that bothways finetune wrote")
    given = {name: part for name, part in (parts or {}).items() if part is not None}
    if not given:
        return load_model(run, **options)
    check_device(options.get("device", "cpu"), options.get("dtype"))
    with fork_rng(devices=[]):
        found = read_classifier(str(run), **given)
    return Adapter(found.module, found.spec, name=str(run), **options)


def _check_path(spec: ModelSpec, name: str, given: Any) -> None:
    """Raise UserError for facts that are not of a flow. given: a path that stands for that of its own facts, if any.

    Where these name a path of the package, none stands for it.
    """
    if spec.path is not None:
        own = given is None or spec.path not in registry.names("path") or path_of(given) is path_of(spec.path)
        if not own:
            raise UserError(
                f"flow {name!r} is of the path {spec.path}, and path= is {name_of(given)!r}; leave path= out, or state "
                "another in spec="
            )
        return
    if spec.count:
        raise UserError(f"flow {name!r} is a classifier, since its spec has classes and no path; {LOAD_MODEL}")
    raise UserError(
        f"flow {name!r} has no path in its spec; {FLOW_SPEC_LINES}; for a model of another kind {LOAD_MODEL}"
    )


@stage("loading models")
def load_flow(
    flow: str | Path | nn.Module | Callable[[], Any],
    spec: ModelSpec | Mapping[str, Any] | None = None,
    *,
    weights: str | Path | None = None,
    path: Any = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Flow:
    """Load a flow, a velocity field from noise to images, from an address or a live module.

        dx/dt = v(x, t),   x ~ N(0, 1) at t = 0,   x = code(picture) at t = 1

    flow: a run of ``pretrain`` or ``finetune``, "bundled:NAME", "PATH.py:FUNCTION", "diffusers:REPO_OR_FOLDER",
        "torchcfm:FILE.pt", "sit:FILE", "dit:FILE", a function that returns (module, spec), what a pretraining gave, a
        loaded classifier that was made of a flow, or an ``nn.Module`` of (x (B,C,H,W), time (B,)) with ``spec``; a Flow
        is returned as it is, on its device.
    spec: overrides the flow's own; it names the path.
    weights: a safetensors file that is loaded into the network. path: that of the run, if it was a Python function.
    dtype: "float32", "bf16" or "float16" (autocast).
    Raises UserError if the address, the spec or the weights do not fit, and for a classifier.
    """
    spec = spec_of(spec)
    flow = stand_in(flow)
    if isinstance(flow, Adapter | Classifier):
        flow = _flow_inside(flow)
    if isinstance(flow, Flow):
        if spec is not None or weights is not None or path is not None:
            raise UserError(f"flow {flow.name!r} is loaded already; leave spec=, weights= and path= out")
        return flow
    if isinstance(flow, nn.Module):
        if spec is None:
            raise UserError(f"load_flow got a {type(flow).__name__} without a ModelSpec; {FLOW_SPEC_LINES}")
        found, name = _live(flow, spec)
    elif callable(flow):
        name = name_of(flow)
        found = built_by(name, flow)
    else:
        check_kinds("load_flow", flow=(flow, (str, Path, nn.Module, Callable)))
        name = str(flow)
        with fork_rng(devices=[]):
            found = read_flow(name, spec, weights is not None)
        set_eval(found.module)
    facts = spec or found.spec
    _check_path(facts, name, path if spec is None else None)
    check_device(device, dtype)
    if weights is not None:
        load_weights(found.module, weights, say=True)
    check_held(found.module, f"flow {name!r}")
    latents = found.latents if isinstance(found.latents, Latents) else None
    if latents is not None:
        check_held(latents, f"the autoencoder of flow {name!r}")
    own = found.path if path is None else path_of(path)
    loaded = Flow(found.module, facts, name, dtype=dtype, path=own, latents=latents).to(device)
    loaded.training = False  # of the flow alone: a live network keeps the mode that its owner gave it
    return check_flow(loaded)


def _live(module: nn.Module, spec: ModelSpec) -> tuple[Loaded, str]:
    """A live module as it is loaded, and its name."""
    inside = unwrapped(module)
    return Loaded(inside, spec), class_of(inside)


def _flow_inside(model: Adapter | Classifier) -> Flow:
    """The flow of a loaded classifier that was made of one. Raises UserError for any other model."""
    found = getattr(model.module, "flow", None)
    if not isinstance(found, Flow):
        raise UserError(
            f"{model.name!r} is loaded as a model, and a flow is needed; give a run of pretrain, or load_flow(ADDRESS)"
        )
    return found
