"""What a pretraining will be, before anything is written: recipe and data -> pictures, network, facts, path, coupling.

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

from bothways.data.images import Augmentation, Batch
from bothways.data.sources import ImageSet, load_images
from bothways.models.catalogue import build_network, check_device
from bothways.models.nets.unet import SIZES
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.couplings import coupling_of
from bothways.representation.flow_matching import flow_matching
from bothways.representation.paths import path_of
from bothways.runs.provenance import versions
from bothways.tasks.pretrain.config import DEFAULT_PRETRAINING, PretrainSettings, pretrain_settings
from bothways.training.along import check_information
from bothways.training.fit import FitSettings
from bothways.training.pairs import pairs
from bothways.training.processes import Batches, Processes, join_processes
from bothways.types import ModelSpec, UserError

NETS: dict[str, dict[str, Any]] = {**SIZES, "points": {"builder": "points"}}
SMALL_PICTURES = 16  # pixels up to which the tiny network does


@dataclass(frozen=True)
class Pretraining:
    """A pretraining that can be begun. train, held: pictures; flow: with its first weights; network: its options."""

    settings: PretrainSettings
    data: str
    train: ImageSet
    held: ImageSet
    flow: Flow
    network: dict[str, Any]
    processes: Processes

    @property
    def fit(self) -> FitSettings:
        values = self.settings.model_dump()
        return FitSettings(**{f.name: values[f.name] for f in dataclasses.fields(FitSettings)})

    @property
    def augmentation(self) -> Augmentation:
        """What the recipe names, and nothing else: what is learnt is how the pictures are spread."""
        return Augmentation(**{"crop": 0, "flip": False, **self.settings.augmentation})

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.flow.network.parameters())

    def pairs(self, batch: Callable[[int], Batch], seed: int) -> Batches:
        """step -> (x, noise, t), to be made in any process: the code is applied without the network."""
        settings, spec = self.settings, self.flow.spec
        code = Flow(nn.Identity(), spec).code
        grey = spec.channel_order == "grey"
        return pairs(batch, code, coupling_of(settings.coupling), seed, spec.levels, grey=grey)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        return flow_matching(network, path_of(self.settings.path), *batch).mean(), {}

    def tables(self) -> dict[str, Any]:
        """What recipe.toml holds."""
        spec = {key: value for key, value in dataclasses.asdict(self.flow.spec).items() if value not in (None, "")}
        skipped = {"skipped": len(self.train.skipped)} if self.train.skipped else {}
        return {
            "settings": {"command": "pretrain", **self.settings.model_dump()},
            "data": {"source": self.data, "pictures": len(self.train), "held_out": len(self.held)} | skipped,
            "model": {"name": self.flow.name, **spec, "network": self.network, "parameters": self.parameters},
            "versions": versions(),
        }

    def card(self) -> dict[str, Any]:
        """The facts with which flow.safetensors becomes a flow again."""
        return {
            "name": self.flow.name,
            "network": self.network,
            "spec": dataclasses.asdict(self.flow.spec),
            "parameters": self.parameters,
            "data": f"{self.data}: {len(self.train)} pictures for training, {len(self.held)} held out",
            "recipe": self.settings.model_dump(),
        }


def prepare_pretraining(
    data: str | Path, recipe: str = DEFAULT_PRETRAINING, *, device: str = "cpu", **changes: Any
) -> Pretraining:
    """Everything of ``pretrain`` that can be refused, before a run folder is touched."""
    settings = pretrain_settings(recipe, **changes)
    check_device(device)
    processes = join_processes(device)
    everything = load_images(data, size=settings.size)
    size = tuple(everything.images.shape[-2:])
    settings = _settled(settings, len(everything) - settings.validation, min(size), processes)
    order = torch.randperm(len(everything), generator=generator(settings.seed, 0, "validation"))
    held, train = everything.subset(order[: settings.validation]), everything.subset(order[settings.validation :])
    check_information(settings.information, len(held))
    spec = ModelSpec(
        size=size[0] if size[0] == size[1] else size,  # type: ignore[arg-type]
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=0,
        channel_order="grey" if everything.channels == 1 else "RGB",
        source=f"trained by bothways pretrain {settings.recipe} on {data}",
        licence="Apache-2.0",
        time_scale=1000.0,
        path=settings.path,
        levels=everything.levels,
    )
    network, options = _built(settings, everything.channels, size)
    flow = Flow(network, spec, Path(settings.recipe).stem).to(processes.device)
    if processes.device == "cpu" and getattr(network, "patch", 1) > 1:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Pretraining(settings, str(data), train, held, flow, options, processes)


def _settled(settings: PretrainSettings, pictures: int, side: int, processes: Processes) -> PretrainSettings:
    """The settings with the number of steps and the network named. Raises UserError where pictures are too few."""
    if pictures < settings.batch:
        raise UserError(
            f"batch={settings.batch} is more than the {max(0, pictures)} pictures that are left when "
            f"{settings.validation} are held out; type a smaller --batch or --validation"
        )
    processes.share(lambda step: (), settings.batch)
    steps = settings.steps or (settings.epochs or 0) * (pictures // settings.batch)
    fitting = "points" if side == 1 else "unet-tiny" if side <= SMALL_PICTURES else "unet-small"
    net = settings.net if settings.net or settings.network else fitting
    return settings.model_copy(update={"steps": steps, "epochs": None, "net": net})


def _built(settings: PretrainSettings, channels: int, size: tuple[int, ...]) -> tuple[nn.Module, dict[str, Any]]:
    """The network with the seed's first weights, and the options that build it."""
    if settings.net is not None and settings.net not in NETS:
        raise UserError(f"net={settings.net!r} is not known; type one of {', '.join(NETS)}")
    options = dict(NETS[settings.net] if settings.net else settings.network)
    builder = options.pop("builder", "unet")
    if builder not in ("unet", "points"):
        raise UserError(f'[network] builder = {builder!r} is not known; type builder = "unet"')
    try:
        with torch.random.fork_rng():  # the first weights are the seed's, the caller's random state is its own
            torch.random.manual_seed(settings.seed)
            network = build_network(builder, channels=channels, **options)
        if Augmentation(**{"crop": 0, **settings.augmentation}).crop >= min(size):
            raise ValueError(f"[augmentation] crop = {settings.augmentation['crop']} is no less than the size")
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"recipe {settings.recipe!r} cannot train: {str(error).splitlines()[0]}") from error
    factor = int(network.factor)  # type: ignore[arg-type]
    if builder == "points" and size != (1, 1):
        raise UserError(f"net 'points' takes pictures of one pixel, not {size[0]}x{size[1]}; type --net unet-tiny")
    if size[0] % factor or size[1] % factor:
        near = max(factor, min(size) // factor * factor)
        raise UserError(
            f"pictures of {size[0]}x{size[1]} pixels do not go into network {settings.net or 'of the recipe'}, whose "
            f"sides are multiples of {factor}; type --size {near}"
        )
    _check_options(settings, builder, channels, size, options)
    return network, {"name": builder, "channels": channels, **options}


def _check_options(
    settings: PretrainSettings, builder: str, channels: int, size: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Raise UserError where the parts of the network do not fit together; found by shapes alone, without a number."""
    try:
        with torch.device("meta"), torch.no_grad():
            build_network(builder, channels=channels, **options)(torch.zeros(1, channels, *size), torch.zeros(1))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"recipe {settings.recipe!r} cannot train: its network of {options} gives no velocity "
            f"({str(error).splitlines()[0]}); type --net unet-tiny, or an even width that its heads divide"
        ) from error
