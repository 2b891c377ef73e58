"""What is planned: the network, the loss and a batch of a training, of any size and on any device, without pictures.

A network is made on the device "meta", whose tensors have a shape and no numbers, or on a real one for a probe.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.sources import find_images, load_images
from bothways.data.targets.labels import CLASS, NUMBERS, read_labels
from bothways.models.catalogue import BUILDERS, check_options
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.discrete_adjoint import KEEP
from bothways.numerics.shapes import Remembered
from bothways.numerics.solvers import solver_of
from bothways.registry import is_address, nearest
from bothways.representation.activations import middle_layer
from bothways.representation.classifier import FlowClassifier, classifier_loss, freeze_unused
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.representation.flow_matching import flow_matching
from bothways.representation.heads import head_of
from bothways.representation.paths import path_of
from bothways.representation.tuning.config import tune_of
from bothways.representation.tuning.parts import checkpoint_activations, tune
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.plan.config import PlanConfig
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.pretrain.networks import NETS, built
from bothways.tasks.pretrain.plan import fitting_net
from bothways.tasks.recipes import configure, expectation
from bothways.types import ModelSpec, Path, UserError

PLANNED = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
FEW = 16  # pictures that are read for their size and their channels
META = "meta"
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Pictures:
    """What pictures a training has. count: of all; shape: (C, H, W); classes: how many."""

    count: int
    shape: tuple[int, int, int]
    classes: int = 0


@dataclass(frozen=True)
class Subject:
    """A training to be planned. config: with its number of steps. pictures: that are trained on.

    velocity: device -> a new network of (x, t). path: of its training. expect: the recipe's [expect].
    """

    task: str
    config: Any
    pictures: Pictures
    velocity: Callable[[str], nn.Module]
    path: Path
    expect: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """Steps of the walk through which the flow is trained; 0 without one."""
        if self.task != "finetune" or self.config.holds_flow or self.config.features.kind not in ("walked", "both"):
            return 0
        return int(self.config.features.steps) if self.config.features.walk_depth > 0 else 0

    @property
    def calls(self) -> int:
        """Network calls of a step of the walk."""
        return solver_of(self.config.features.solver).calls

    @property
    def state(self) -> int:
        """Numbers of the state of a walk of one picture."""
        return solver_of(self.config.features.solver).state_size * torch.Size(self.pictures.shape).numel()

    @property
    def recomputed(self) -> int:
        """Steps of the walk that the exact gradient makes again."""
        exact = self.steps and self.config.features.gradient == "exact"
        return max(0, self.steps - KEEP) if exact else 0

    @property
    def tuned(self) -> str:
        """What of the network is trained, as --tune names it."""
        return str(self.config.tune) if self.task == "finetune" else "all"

    def network(self, device: str = META, steps: int | None = None, gradient: str = "direct") -> nn.Module:
        """A new network in train mode. steps, gradient: of its walk, if it walks."""
        velocity = self.velocity(device)
        if self.task == "pretrain":
            return velocity.train()
        read, config = self.config.features, self.config
        how = Features(
            read.kind, read.walk_depth, Walk(steps or read.steps, read.solver, gradient),
            (read.layer,) if read.layer else (), read.read_depth, read.noised,
        )  # fmt: skip
        with torch.device(device), Remembered():
            classifier = FlowClassifier(
                velocity, self.path, self.pictures.shape, self.pictures.classes,
                replace(how, walk=Walk(1, read.solver, "direct")), frozen=config.frozen, head=head_of(read.head),
            )  # fmt: skip
            tune(classifier, tune_of(config.tune), self.pictures.shape)
            if not config.loss.beta:
                freeze_unused(classifier, self.pictures.shape)
        classifier.how = how
        if config.fit.checkpoint_activations:
            checkpoint_activations(classifier)
        return classifier.train()

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
        """The loss of the training and its parts."""
        if self.task == "pretrain":
            return flow_matching(network, self.path, *batch).mean(), {}
        return classifier_loss(network, batch, self.config.loss.beta, self.config.loss.label_smoothing)

    def example(self, count: int, device: str = META) -> Batch:
        """A batch of so many pictures, of any numbers."""
        shape = self.pictures.shape

        def paired(few: int) -> Batch:
            like = (torch.zeros(few, *shape, device=device) for _ in range(2))
            return (*like, torch.full((few,), 0.5, device=device))

        if self.task == "pretrain":
            return paired(count)
        labelled = torch.zeros(count, *shape, device=device), torch.zeros(count, dtype=torch.int64, device=device)
        if not self.config.loss.beta:
            return labelled
        share = min(1.0, (self.config.loss.flow_batch or self.config.fit.batch) / self.config.fit.batch)
        return labelled + paired(max(1, round(share * count)))


def subject_of(plan: PlanConfig) -> Subject:
    """The training that a plan names. Raises UserError for what cannot be planned, in one line."""
    task, given = plan.command, dict(plan.given)
    if task not in PLANNED:
        named = str(expectation(task).get("task"))
        if named not in PLANNED:
            raise UserError(f"plan {task!r}: no command that is planned; {nearest(task, PLANNED)}, or a recipe of one")
        task, given = named, {"recipe": task, **given}
    return _pretraining(given) if task == "pretrain" else _finetuning(given)


def _pretraining(given: dict[str, Any]) -> Subject:
    config = configure(PretrainConfig, **{"data": "", **given})
    expect = expectation(config.recipe)
    pictures = _pictures(config, expect, config.size)
    spec = ModelSpec(pictures.shape[1:], 0.5, 0.5, classes=0, path="linear")  # type: ignore[arg-type]
    spec = replace(spec, channel_order="grey" if pictures.shape[0] == 1 else "RGB")
    name = config.net or (None if config.network else fitting_net(min(pictures.shape[1:])))
    own = name is not None and is_address(name)
    if name is not None and not own and name not in NETS:
        raise UserError(f"net={name!r} is not known; type one of {', '.join(NETS)}, or PATH.py:FUNCTION")
    path = path_of(config.path)
    if own:
        network, _, spec = built(config, spec)
    options = {"builder": "unet", "channels": pictures.shape[0], **(config.network if own or not name else NETS[name])}

    def velocity(device: str) -> nn.Module:
        if own:
            return Flow(copy.deepcopy(network), spec, path=path).to(device)
        flow = Flow(_built(options, device), spec, path=path).to(device)
        last = options.get("patch", 1) > 1 and device != "cuda"  # as pretrain lays it out on a CPU
        return flow.to(memory_format=torch.channels_last) if last else flow  # type: ignore[call-overload]

    count = pictures.count - config.holdout.validation
    config = config.model_copy(update={"fit": _fitted(config, count, config.fit.batch), "net": name})
    return Subject("pretrain", config, replace(pictures, count=count), velocity, path, expect)


def _finetuning(given: dict[str, Any]) -> Subject:
    flow = given.get("flow")
    trained_by = expectation(flow) if isinstance(flow, str) else {}  # the recipe of the flow, which need not be there
    if trained_by.get("task") == "pretrain":
        given = {"recipe": trained_by.get("finetune"), **given}
    config = configure(FinetuneConfig, **{"data": "", "flow": "", **given})
    expect = expectation(config.recipe)
    if trained_by.get("task") == "pretrain":
        below = _pretraining({"recipe": flow} | ({"data": config.data} if config.data else {}))
        velocity, path, found = below.velocity, below.path, below.expect
    elif flow is None and "network" in expect:
        options = dict(expect["network"])
        velocity, path, found = (lambda device: _built(options, device)), path_of(expect.get("path", "linear")), expect
    elif flow is None:
        raise UserError("plan finetune needs a flow; type that of a run, or the recipe that trains one")
    else:
        loaded = load_flow(flow)
        velocity, path, found = (lambda device: copy.deepcopy(loaded).to(device)), loaded.path, expect
        found = {**found, "size": loaded.shape[1:], "channels": loaded.shape[0]}
    pictures = _pictures(config, {**expect, **found}, None)
    if (labels := config.holdout.labels or 0) > pictures.count:
        raise UserError(f"labels={labels}: there are {pictures.count} pictures to choose from; type a smaller --labels")
    count = labels or pictures.count - config.holdout.validation
    batch, features = min(config.fit.batch, max(1, count)), config.features
    if features.gradient == "adjoint":
        raise UserError("plan: the cost of gradient='adjoint' is not known; type --gradient exact, or direct")
    walk = Walk(features.steps, features.solver, "direct")
    if features.kind in ("walked", "both") and walk.adaptive:
        raise UserError(
            f"plan: solver {walk.name!r} takes its own steps, so that its cost is not known; type --solver euler"
        )
    if features.reads_activations and features.layer is None:
        features = features.model_copy(update={"layer": middle_layer(velocity(META))})
    beta = 0.0 if config.holds_flow else 1.0 if config.loss.beta is None else config.loss.beta
    flow_batch = None if config.loss.flow_batch is None else min(config.loss.flow_batch, batch)
    loss = config.loss.model_copy(update={"beta": beta, "flow_batch": flow_batch})
    changed = {"fit": _fitted(config, count, batch), "features": features, "loss": loss}
    if config.holds_flow:
        changed |= {"tune": "head", "frozen": True}
    config = config.model_copy(update=changed)
    subject = Subject("finetune", config, replace(pictures, count=count), velocity, path, expect)
    if tune_of(config.tune).number:  # blocks that are not there, or no peft, are said before anything is counted
        subject.network()
    return subject


def _built(options: Mapping[str, Any], device: str) -> nn.Module:
    """A network of the catalogue on a device. Raises UserError for options that fit no network."""
    own = dict(options)
    name = own.pop("builder")
    if name not in BUILDERS:
        raise UserError(f"network {name!r} is not known; {nearest(name, BUILDERS)}")
    check_options(name, own)
    try:
        with torch.device(device):
            return BUILDERS[name](**own)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"network {name!r} cannot be built: {str(error).splitlines()[0]}") from error


def _fitted(config: Any, pictures: int, batch: int) -> Any:
    if not 1 <= batch <= pictures:
        raise UserError(
            f"batch={batch} is more than the {max(0, pictures)} pictures that are left when "
            f"{config.holdout.validation} are held out; type a smaller --batch or --validation"
        )
    return config.fit.resolved(pictures, batch)


def _outputs(config: Any) -> int:
    """The outputs of a classifier by its table of labels or its target; 0 where the classes of the pictures say."""
    if getattr(config, "labels_csv", None) is not None:
        return len(read_labels(config.labels_csv, config.target).names)
    return 1 if getattr(config, "target", CLASS) == NUMBERS else 0


def _pictures(config: Any, expect: Mapping[str, Any], size: int | None) -> Pictures:
    """The pictures of --data, of which a few are read, or those that the recipe is for."""
    if config.data:
        split, side = config.split or "train", size or expect.get("size")
        found = find_images(config.data, split=split)
        few = load_images(config.data, split=split, size=side, first=FEW)
        classes = max(2, len(found.classes) or int(few.labels.max()) + 1)
        channels = int(expect.get("channels", few.channels))
        return Pictures(
            found.count, (channels, few.images.shape[-2], few.images.shape[-1]), _outputs(config) or classes
        )
    if missing := [name for name in ("pictures", "size") if name not in expect]:
        raise UserError(
            f"plan: the {missing[0]} of the training is not known; type --data, or a recipe that states it in [expect]"
        )
    side = size or expect["size"]
    height, width = (side, side) if isinstance(side, int) else side
    classes = _outputs(config) or int(expect.get("classes", 2))
    return Pictures(expect["pictures"], (int(expect.get("channels", 3)), height, width), classes)
