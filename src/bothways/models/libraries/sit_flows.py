"""``sit:FILE_OR_FOLDER`` and ``dit:FILE_OR_FOLDER``: released checkpoints of SiT and DiT, of every size and patch.

sit   the velocity, called at t itself (0 noise, 1 latent), on the linear path
dit   epsilon at the levels of a linear schedule of 1,000, 1e-4 to .02; the channels of learned variances are left out

The two have the same names and shapes of weights, so the address says which. Width, depth, patch and size are read from
the shapes; the number of heads follows from the width. The last row of the table of classes is that of none (1000).
Latents are those of Stable Diffusion's autoencoder times .18215: the folder ``vae`` beside the file, or ``VAE`` of the
hub. Facts: github.com/willisma/SiT (MIT), github.com/facebookresearch/DiT (CC-BY-NC 4.0).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways import budget
from bothways.models.libraries.hub import Loaded, folder, library, reading
from bothways.models.libraries.latents import CONFIG, WEIGHTS, from_folder
from bothways.models.libraries.predictions import Denoiser
from bothways.models.nets.sit import HEADS, SiT
from bothways.models.weights import misfit, read_tensors
from bothways.reading import at_home, is_there
from bothways.representation.paths.scheduled import scheduled
from bothways.types import ModelSpec, UserError

VAE, VAE_FOLDER = "stabilityai/sd-vae-ft-mse", "vae"
SCALE = 0.18215
LEVELS = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4,
          "beta_end": 0.02, "prediction_type": "epsilon"}  # fmt: skip
AVERAGED = "ema"
TABLE, POSITIONS, PATCHES, LAST = (
    "y_embedder.embedding_table.weight", "pos_embed", "x_embedder.proj.weight", "final_layer.linear.weight",
)  # fmt: skip
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
FACTS = {"sit": ("linear", "MIT"), "dit": ("scheduled", "CC-BY-NC-4.0")}  # the path and the licence of the weights


def from_sit(name: str) -> Loaded:
    """Load a checkpoint of SiT. Raises UserError for another layout, with the names expected and found."""
    network, latents, spec = _loaded("sit", name)
    return Loaded(network, spec, latents=latents)


def from_dit(name: str) -> Loaded:
    """Load a checkpoint of DiT. Raises UserError for another layout, with the names expected and found."""
    network, latents, spec = _loaded("dit", name)
    scheduler = library("diffusers").DDPMScheduler.from_config(LEVELS)
    path = scheduled(scheduler.alphas_cumprod.double())
    found = Denoiser(network, path, LEVELS["num_train_timesteps"], "epsilon")  # type: ignore[arg-type]
    found.configs = {"network": {"_class_name": "SiT", **network.options}, "scheduler": dict(scheduler.config)}
    return Loaded(found, spec, path=path, latents=latents)


def _loaded(scheme: str, name: str) -> tuple[SiT, Any, ModelSpec]:
    flow = f"flow '{scheme}:{name}'"
    file = _file(name, scheme, flow)
    other = "dit" if scheme == "sit" else "sit"
    if file.name.casefold().startswith(other):
        raise UserError(
            f"{flow}: the file is called one of {other}, whose network predicts "
            f"{'noise at levels of a schedule' if other == 'dit' else 'a velocity'}; type {other}:{name}, or rename it"
        )
    held = _weights(file, flow)
    options = options_of(held, flow)
    place = file.parent / VAE_FOLDER
    latents = from_folder(place if place.is_dir() else _fetched(place), flow, SCALE)
    if latents.channels != options["channels"]:
        raise UserError(f"{flow} draws {options['channels']} channels, and its autoencoder {latents.channels}")
    network = _filled(held, options, flow)
    size, half, (path, licence) = options["size"] * latents.factor, (0.5, 0.5, 0.5), FACTS[scheme]
    spec = ModelSpec(size, half, half, 0, time_scale=1.0, path=path, source=f"{scheme}:{name}", licence=licence)
    return network, latents, spec


def _file(name: str, scheme: str, flow: str) -> Path:
    """The checkpoint of a file's or a folder's name."""
    path = at_home(name)
    if not path.is_dir():
        if name and path.suffix in SUFFIXES and is_there(path):
            return path
        raise UserError(
            f"{flow}: the file does not exist; type {scheme}:FILE.safetensors, {scheme}:FILE.pt or a folder"
        )
    place = folder(name)
    assert place is not None
    found = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES)
    if len(found) != 1:
        held = ", ".join(file.name for file in found[:4]) or "no file of weights"
        raise UserError(f"{flow}: the folder holds {held}; type {scheme}:FILE for one of them")
    return found[0]


def _weights(file: Path, flow: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint: the averaged ones of a training, or all of the file."""
    if file.suffix == ".safetensors":
        return read_tensors(file, flow)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the settings that train.py keeps beside them
            held: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged or unsafe files raise exceptions of any class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{flow} cannot be read by torch.load(weights_only=True): {reason}") from error
    found = held.get(AVERAGED, held) if isinstance(held, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, list(held)[:4])) if isinstance(held, dict) else type(held).__name__
        raise UserError(f"{flow} holds neither {AVERAGED!r} nor tensors by name, but {keys}; type another file")
    return {key.removeprefix("module."): value for key, value in found.items()}


def options_of(held: Mapping[str, Tensor], flow: str) -> dict[str, Any]:
    """The options of ``SiT`` from the shapes of the weights. Raises UserError for another layout."""
    needed = {PATCHES: 4, POSITIONS: 3, TABLE: 2, LAST: 2}
    lacking = [key for key, ndim in needed.items() if key not in held or held[key].ndim != ndim]
    if lacking:
        raise UserError(
            f"{flow} is not in the layout of SiT: expected {', '.join(lacking)}, found {', '.join(list(held)[:4])}"
        )
    width, channels, patch, _ = held[PATCHES].shape
    if width not in HEADS:
        known = ", ".join(map(str, HEADS))
        raise UserError(f"{flow} has a width of {width}; those of SiT and DiT are {known}, from which the heads follow")
    depth = 1 + max((int(key.split(".")[1]) for key in held if _of_block(key)), default=-1)
    side, outputs = round(held[POSITIONS].shape[1] ** 0.5), held[LAST].shape[0] / patch**2
    if side**2 != held[POSITIONS].shape[1] or outputs not in (channels, 2 * channels):
        raise UserError(
            f"{flow} is not in the layout of SiT: {held[POSITIONS].shape[1]} places of patches, not a square, or "
            f"{outputs:g} channels out for {channels} in, not as many or twice as many"
        )
    return {
        "size": side * patch, "patch": patch, "channels": channels, "width": width, "depth": depth,
        "heads": HEADS[width], "sigma": outputs == 2 * channels,
    }  # fmt: skip


def _of_block(key: str) -> bool:
    parts = key.split(".")
    return len(parts) > 2 and parts[0] == "blocks" and parts[1].isdecimal()


def _filled(held: Mapping[str, Tensor], options: Mapping[str, Any], flow: str) -> SiT:
    with torch.device("meta"):  # of which only the shapes are made
        network = SiT(**options)
    own = network.state_dict()
    wanted = {TABLE if key == "null" else key: value for key, value in own.items()}
    own_shapes = {**wanted, TABLE: held[TABLE]}
    if said := misfit(held, own_shapes):
        raise UserError(f"{flow} is not in the layout of SiT of width {options['width']} ({said})")
    budget.check_memory(flow, sum(4 * value.numel() for value in wanted.values()), "type a smaller one")
    found = {key: value.float() for key, value in held.items() if key != TABLE}
    network.load_state_dict({**found, "null": held[TABLE][-1].float().clone()}, assign=True)
    return network


def _fetched(place: Path) -> Path:
    """The hub's copy of the autoencoder, where none lies beside the checkpoint."""
    from huggingface_hub import snapshot_download

    library("diffusers")
    try:
        with reading("diffusers", VAE, CONFIG):
            return Path(snapshot_download(VAE, allow_patterns=[CONFIG, WEIGHTS]))
    except UserError as error:
        raise UserError(
            f"no autoencoder in {place}: type hf download {VAE} --local-dir {place} with a network"
        ) from error
