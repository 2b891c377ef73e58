"""``diffusers:REPO_OR_FOLDER``: a UNet2DModel and its scheduler as the probability-flow velocity of its noise schedule.

    x = a X + s e,   v = a' X + s' e,   t = 1 - k / (K - 1)  for level k of K

    epsilon        the network gives e           X = (x - s e) / a
    v_prediction   it gives u = a e - s X        X = a x - s u,   e = s x + a u
    sample         it gives X                    e = (x - a X) / s

Between levels the network is evaluated at fractional k. Ho et al. 2020, arXiv 2006.11239; Salimans & Ho 2022,
arXiv 2202.00512, app. D; Song et al. 2020, arXiv 2010.02502 (DDIM), whose deterministic sampler integrates this field.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

from torch import Tensor, nn

from bothways.models.libraries.hub import Loaded, folder, library, reading
from bothways.reading import is_there, read_table
from bothways.representation.paths.scheduled import scheduled
from bothways.types import ModelSpec, Path, UserError

CONFIG, WEIGHTS, SCHEDULER = "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"
INDEX = "model_index.json"  # of a pipeline: the list of its parts
PIPELINE = (INDEX, f"unet/{CONFIG}", f"unet/{WEIGHTS}", f"scheduler/{SCHEDULER}")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
PATH_NAME = "scheduled"  # in the spec: the path is a table of levels and not an entry of the registry


class Denoiser(nn.Module):
    """Velocity (x, t) -> v of a network that predicts epsilon, v or the sample, on the path of its schedule."""

    configs: Mapping[str, Any]  # {"network", "scheduler"}: from which ``rebuilt`` makes it without weights

    def __init__(self, network: nn.Module, path: Path, levels: int, prediction: str) -> None:
        super().__init__()
        self.network, self.path, self.levels, self.prediction = network, path, levels, prediction

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        found = self.network(x, (1 - t) * (self.levels - 1)).sample
        a, s, da, ds = (weight.view(-1, 1, 1, 1) for weight in self.path(t))
        if self.prediction == "epsilon":
            return da * (x - s * found) / a + ds * found
        if self.prediction == "v_prediction":
            return da * (a * x - s * found) + ds * (s * x + a * found)
        return da * found + ds * (x - a * found) / s


def from_diffusers(name: str) -> Loaded:
    """Load a diffusion model's velocity, ModelSpec and path.

    Raises UserError if a file is missing, or if the network or the schedule is of another kind.
    """
    diffusers = library("diffusers")
    place = folder(name) or _fetched(name)
    piped = (place / "unet").is_dir()
    unet, scheduler = (place / "unet", place / "scheduler") if piped else (place, place)
    with _read(unet, CONFIG):
        config = diffusers.UNet2DModel.load_config(str(unet), local_files_only=True)
    _check_network(name, config, read_table(place / INDEX) if is_there(place / INDEX) else {})
    kind, scheduled_by = _scheduler(diffusers, scheduler)
    products, prediction = _schedule(name, kind, scheduled_by)
    with _read(unet, WEIGHTS):
        network, report = diffusers.UNet2DModel.from_pretrained(
            str(unet), use_safetensors=True, low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
    if report["missing_keys"]:
        raise UserError(f"flow 'diffusers:{name}': {WEIGHTS} holds no {report['missing_keys'][0]}; give the whole file")
    path = scheduled(products)
    found = Denoiser(network.float(), path, len(products), prediction)
    found.configs = {"network": dict(config), "scheduler": dict(scheduled_by.config)}
    return Loaded(found, _facts(name, config), path=path)


def rebuilt(configs: Mapping[str, Any]) -> Loaded:
    """The velocity of the ``configs`` of a Denoiser, whose weights are to be loaded by the caller."""
    diffusers = library("diffusers")
    network, kind = configs["network"], str(configs["scheduler"].get("_class_name"))
    with reading("diffusers", "the card", "its configs"):
        made = diffusers.UNet2DModel.from_config(dict(network))
        scheduler = getattr(diffusers, kind, None) and getattr(diffusers, kind).from_config(dict(configs["scheduler"]))
    products, prediction = _schedule("the card", kind, scheduler)
    path = scheduled(products)
    found = Denoiser(made.float(), path, len(products), prediction)
    found.configs = configs
    return Loaded(found, _facts("the card", dict(network)), path=path)


@contextmanager
def _read(place: FilePath, file: str) -> Iterator[None]:
    """``reading`` with the library's own error log silenced, since the UserError repeats it."""
    log = logging.getLogger("diffusers")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with reading("diffusers", str(place), file):
            yield
    finally:
        log.setLevel(level)


def _fetched(name: str) -> FilePath:
    """Download the needed files of a repository -> its folder in the hub's cache."""
    from huggingface_hub import snapshot_download

    patterns = [CONFIG, WEIGHTS, SCHEDULER, *PIPELINE]
    with reading("diffusers", name, CONFIG):
        return FilePath(snapshot_download(name, allow_patterns=patterns))


def _check_network(name: str, config: dict[str, Any], parts: dict[str, Any]) -> None:
    def refuse(what: str) -> None:
        raise UserError(
            f"flow 'diffusers:{name}' {what}; type a UNet2DModel of pixels without classes, or PATH.py:FUNCTION"
        )

    if config.get("_class_name") != "UNet2DModel":
        refuse(f"is a {config.get('_class_name')}")
    if parts.keys() & {"vae", "vqvae"}:
        refuse("draws the codes of an autoencoder, not pixels")
    if config["in_channels"] not in (1, 3) or config["out_channels"] != config["in_channels"]:
        refuse(f"has {config['in_channels']} channels in and {config['out_channels']} out, not 1 or 3 of each")
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        refuse("is class-conditional")
    if config.get("time_embedding_type", "positional") != "positional":
        refuse(f"has a {config['time_embedding_type']} time embedding; only positional is defined between levels")
    if not config.get("sample_size"):
        refuse(f"has no sample_size in {CONFIG}")


def _scheduler(diffusers: Any, place: FilePath) -> tuple[str, Any]:
    """(class name, the library's scheduler in a folder); None for a class that the library does not have."""
    with _read(place, SCHEDULER):
        kind = diffusers.DDPMScheduler.load_config(str(place), local_files_only=True).get("_class_name", "none")
        scheduler = getattr(diffusers, kind, None)
        return kind, scheduler and scheduler.from_pretrained(str(place), local_files_only=True)


def _schedule(name: str, kind: str, found: Any) -> tuple[Tensor, str]:
    """(prod(1 - beta_i) of every level (K,) float64, prediction type) of the library's scheduler."""
    products, prediction = getattr(found, "alphas_cumprod", None), found and found.config.get("prediction_type")
    if products is None or prediction not in PREDICTIONS:
        what = f"has no levels of noise ({kind})" if products is None else f"predicts {prediction!r}"
        raise UserError(
            f"flow 'diffusers:{name}': its scheduler {what}; give one with alphas_cumprod, such as DDPMScheduler, "
            f"that predicts {', '.join(PREDICTIONS)}"
        )
    if len(products) < 2 or not bool((products > 0).all()):
        raise UserError(
            f"flow 'diffusers:{name}': a level of its schedule is pure noise, where the velocity is undefined; "
            "set rescale_betas_zero_snr to false"
        )
    return products.double(), prediction


def _facts(name: str, config: dict[str, Any]) -> ModelSpec:
    size, half = config["sample_size"], (0.5, 0.5, 0.5)
    return ModelSpec(
        size=size if isinstance(size, int) else tuple(size),
        mean=half,
        std=half,
        classes=0,
        channel_order="grey" if config["in_channels"] == 1 else "RGB",
        path=PATH_NAME,
        time_scale=1.0,
        source=f"diffusers:{name}",
    )
