"""The plan of a pretraining: recipe and data -> pictures, network, path and coupling.

Source: PRG, Xue et al. 2024, arXiv 2412.01787: ICFM, OTCFM and GVP differ in path and coupling alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.augmentations import with_strong
from bothways.data.images import Augment, Batch
from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.sources import ImageSet
from bothways.data.splits import holdout
from bothways.data.trained import training_record
from bothways.models.catalogue import check_device
from bothways.models.classifiers import card_of_flow, trained_on
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.processes.group import Batches, Processes, join_processes
from bothways.registry import name_of
from bothways.representation.couplings import coupling_of
from bothways.representation.flow_matching import flow_matching
from bothways.representation.paths import path_of
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.pretrain.networks import built
from bothways.tasks.pretrain.warm import warm_start
from bothways.training.accuracy import check_probe
from bothways.training.along import check_along
from bothways.training.pairs import pairs
from bothways.types import ModelSpec, UserError

SMALL_PICTURES = 16  # side in pixels up to which the default network is unet-tiny


@dataclass(frozen=True)
class Pretraining:
    """A validated pretraining. train, held: pictures. flow: with initial weights. network: options that build it.

    initial: a line on weights of another flow, "" for none. earlier: the records of that flow's trainings.
    """

    config: PretrainConfig
    train: ImageSet | StoredSet
    held: ImageSet
    flow: Flow
    network: dict[str, Any]
    processes: Processes
    initial: str = ""
    earlier: tuple[dict[str, Any], ...] = ()

    @property
    def augmentation(self) -> Augment:
        """The augmentation of the training pictures."""
        return with_strong(**self.config.augmentation.model_dump())

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.flow.network.parameters())

    def pairs(self, batch: Callable[[int], Batch], seed: int) -> Batches:
        """step -> (x, noise, t), computed without the network, so that any process can do it."""
        spec = self.flow.spec
        code = Flow(nn.Identity(), spec).code
        grey = spec.channel_order == "grey"
        return pairs(batch, code, coupling_of(self.config.coupling), seed, spec.levels, grey=grey)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        return flow_matching(network, self.flow.path, *batch).mean(), {}

    def settings(self) -> dict[str, Any]:
        """The settings that determine the training, by name."""
        unset = {"init"} if self.config.init is None else set()
        return self.config.model_dump(exclude={"data", "run"} | unset)

    def tables(self) -> dict[str, Any]:
        """The tables of recipe.toml."""
        spec = {key: value for key, value in dataclasses.asdict(self.flow.spec).items() if value not in (None, "")}
        skipped = {"skipped": len(self.train.skipped)} if self.train.skipped else {}
        source = str(self.config.data)
        return {
            "settings": self.settings(),
            "data": {"source": source, "pictures": len(self.train), "held_out": len(self.held)} | skipped,
            "model": {"name": self.flow.name, **spec, "network": self.network, "parameters": self.parameters},
        }

    def card(self) -> dict[str, Any]:
        """The content of flow.json, from which the flow is rebuilt."""
        own = training_record(self.config.data, self.config.split or "train", self.train, self.held)
        return {
            "name": self.flow.name,
            "network": self.network,
            "spec": dataclasses.asdict(self.flow.spec),
            "parameters": self.parameters,
            "data": f"{self.config.data}: {len(self.train)} pictures for training, {len(self.held)} held out",
            "trained_on": [own, *(record for record in self.earlier if record != own)],
            **({"initial": self.initial} if self.initial else {}),
            "recipe": self.settings(),
        }

    def line(self) -> str:
        """A summary for a dry run."""
        net, fit = self.config.net or "a network of the recipe", self.config.fit
        net += ", called v(t, x)," if self.flow.spec.time_first else ""
        return (
            f"{self.parameters:,} parameters of {net} would be trained on {len(self.train)} pictures, "
            f"{fit.steps} steps of {fit.batch}"
        )


def plan_of(config: PretrainConfig, begun: Path | None = None) -> Pretraining:
    """Plan a run of ``pretrain``. begun: the folder of one with a checkpoint, which holds its weights.

    Raises UserError for invalid input, before a run folder is written.
    """
    check_device(config.run.device, "bf16" if config.fit.bf16 else "float32")
    processes = join_processes(config.run.device)
    everything = open_images(
        config.data, split=config.split or "train", size=config.size, in_memory=config.run.in_memory
    )
    size = everything.shape
    config = _settled(config, len(everything) - config.holdout.validation, min(size), processes)
    held, train = holdout(everything, config.holdout.validation, config.seed)
    check_along(config.holdout, len(held))
    if config.run.probe_every:
        check_probe(held, str(config.data))
    spec = ModelSpec(
        size=size[0] if size[0] == size[1] else size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=0,
        channel_order="grey" if everything.channels == 1 else "RGB",
        source=f"trained by bothways pretrain {config.recipe} on {config.data}",
        path=name_of(config.path),
        levels=everything.levels,
    )
    network, options, spec = built(config, spec)
    initial, earlier = _initial(config, network, begun)
    flow = Flow(network, spec, Path(config.recipe).stem, path=path_of(config.path)).to(processes.device)
    if processes.device == "cpu" and getattr(network, "patch", 1) > 1:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Pretraining(config, train, held, flow, options, processes, initial, tuple(earlier))


def _initial(config: PretrainConfig, network: nn.Module, begun: Path | None) -> tuple[str, list[dict[str, Any]]]:
    """Load the weights of another flow, if any -> the line on them, and the records of its trainings."""
    if config.init is None:
        return "", []
    if begun is not None:
        return str((card_of_flow(str(begun)) or {}).get("initial", "")), trained_on(str(begun))
    flow = load_flow(config.init)
    return warm_start(network, flow), trained_on(flow.name)


def _settled(config: PretrainConfig, pictures: int, side: int, processes: Processes) -> PretrainConfig:
    """Resolve the number of steps and the network. Raises UserError if there are too few pictures."""
    if pictures < config.fit.batch:
        raise UserError(
            f"batch={config.fit.batch} is more than the {max(0, pictures)} pictures that are left when "
            f"{config.holdout.validation} are held out; type a smaller --batch or --validation"
        )
    processes.share(lambda step: (), config.fit.batch)
    net = config.net if config.net or config.network else fitting_net(side)
    return config.model_copy(update={"fit": config.fit.resolved(pictures), "net": net})


def fitting_net(side: int) -> str:
    """The name of the network for pictures of this side, where none is given."""
    return "points" if side == 1 else "unet-tiny" if side <= SMALL_PICTURES else "unet-small"
