"""``diffusers:REPO_OR_FOLDER``: a network of diffusers and its scheduler as the velocity of its probability flow.

    FOLDER/unet or transformer, scheduler, vae      a pipeline; or the network and its scheduler in FOLDER itself
    FOLDER/bothways.json, prompt.safetensors        what no file of diffusers states (diffusers_networks.py)

t = 1 - k / (K - 1) for level k of K; t = 1 - sigma of a flow-matching scheduler; t evenly along the sigmas of EDM. The
formulas are in predictions.py. With a ``vae`` the flow is on latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

from torch import Tensor, nn

from bothways.models.libraries import diffusers_networks as networks
from bothways.models.libraries.hub import Loaded, folder, library, reading, silenced
from bothways.models.libraries.latents import KIND, Latents, from_folder
from bothways.models.libraries.predictions import PREDICTIONS, Denoiser, FlowMatched, Preconditioned, Predicting
from bothways.reading import is_there, read_table
from bothways.representation.paths.karras import Karras
from bothways.representation.paths.scheduled import scheduled
from bothways.types import ModelSpec, Path, UserError

CONFIG, WEIGHTS, SCHEDULER = "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"
INDEX = "model_index.json"  # of a pipeline: the list of its parts
PARTS = ("unet", "transformer")  # folders that hold the network of a pipeline
SHARDS = ("diffusion_pytorch_model*.safetensors", "*.safetensors.index.json")
FETCHED = (CONFIG, WEIGHTS, SCHEDULER, INDEX, f"scheduler/{SCHEDULER}", networks.STATED, networks.PROMPT)
MATCHED = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
LINEAR, LEVELLED, KARRAS = "linear", "scheduled", "karras"  # the latter two are in no registry: a table, and numbers


def from_diffusers(name: str) -> Loaded:
    """Load a diffusion or flow-matching model's velocity, ModelSpec and path, and its autoencoder.

    Raises UserError if a file is missing, or if the network or the schedule is of another kind.
    """
    flow, diffusers = f"flow 'diffusers:{name}'", library("diffusers")
    place = folder(name) or _fetched(name)
    part = next((place / part for part in PARTS if (place / part).is_dir()), place)
    with _read(part, CONFIG):
        config = dict(diffusers.UNet2DModel.load_config(str(part), local_files_only=True))
    kind = networks.kind_of(config, flow)
    latents = _autoencoder(place, flow)
    _check_network(flow, kind, config, latents)
    stated = networks.stated_in(place)
    condition = networks.condition_of(kind, config, place, stated, flow)
    schedule = _stated_schedule(stated) or _schedule(diffusers, place / "scheduler" if part != place else place)
    with _read(part, WEIGHTS):
        network, report = getattr(diffusers, kind).from_pretrained(
            str(part), use_safetensors=True, low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
    if report["missing_keys"]:
        raise UserError(f"{flow}: {WEIGHTS} holds no {report['missing_keys'][0]}; give the whole file")
    made, path, named = _velocity(diffusers, networks.at_condition(network.float(), config, condition), schedule, flow)
    made.configs = {"network": config, "scheduler": schedule}
    if condition != networks.Condition():
        made.configs = {**made.configs, "condition": condition.facts()}
    return Loaded(made, _facts(f"diffusers:{name}", kind, config, named, latents), path=path, latents=latents)


def rebuilt(configs: Mapping[str, Any]) -> Loaded:
    """The velocity of the ``configs`` of a ``Predicting``, whose weights are to be loaded by the caller."""
    diffusers, config = library("diffusers"), dict(configs["network"])
    with reading("diffusers", "the card", "its configs"):
        network = networks.built(diffusers, config).float()
        condition = networks.condition_in(configs.get("condition") or {})
        network = networks.at_condition(network, config, condition)
        made, path, named = _velocity(diffusers, network, dict(configs["scheduler"]), "the card")
    made.configs = configs
    return Loaded(made, _facts("the card", str(config.get("_class_name")), config, named, None), path=path)


@contextmanager
def _read(place: FilePath, file: str) -> Iterator[None]:
    """``reading`` with the library's own error log silenced, since the UserError repeats it."""
    with silenced("diffusers"), reading("diffusers", str(place), file):
        yield


def _fetched(name: str) -> FilePath:
    """Download the needed files of a repository -> its folder in the hub's cache."""
    from huggingface_hub import snapshot_download

    parts = [f"{part}/{file}" for part in (*PARTS, "vae") for file in (CONFIG, *SHARDS)]
    with reading("diffusers", name, CONFIG):
        return FilePath(snapshot_download(name, allow_patterns=[*FETCHED, *parts]))


def _autoencoder(place: FilePath, flow: str) -> Latents | None:
    """The autoencoder of a pipeline; None where it has none. Raises UserError for another kind."""
    parts = read_table(place / INDEX) if is_there(place / INDEX) else {}
    if parts.get("vqvae"):
        raise UserError(f"{flow} draws the codes of an autoencoder {parts['vqvae'][-1]}; {KIND} as its vae is read")
    if (place / "vae").is_dir():
        return from_folder(place / "vae", flow)
    if parts.get("vae"):
        raise UserError(
            f"{flow} draws latents of an autoencoder, and there is no {place / 'vae'}; give the whole folder"
        )
    return None


def _check_network(flow: str, kind: str, config: Mapping[str, Any], latents: Latents | None) -> None:
    def refuse(what: str) -> None:
        raise UserError(f"{flow} {what}; type another, or PATH.py:FUNCTION")

    entering = int(config["in_channels"])
    leaving = int(config.get("out_channels") or entering)
    expected = (1, 3) if latents is None else (latents.channels,)
    allowed = (entering,) if kind != "DiTTransformer2DModel" else (entering, 2 * entering)  # it may learn variances
    if entering not in expected or leaving not in allowed:
        wanted = "1 or 3" if latents is None else f"the {latents.channels} of its autoencoder"
        refuse(f"has {entering} channels in and {leaving} out, not {wanted} of each")
    if config.get("time_embedding_type", "positional") != "positional":
        refuse(f"has a {config['time_embedding_type']} time embedding; only positional is defined between levels")
    if not config.get("sample_size"):
        refuse(f"has no sample_size in {CONFIG}")


# ---- schedules -------------------------------------------------------------------------------------------------------


def _stated_schedule(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule of EDM whose numbers ``bothways.json`` states; {} where it does not."""
    if stated["sigma_data"] is None:
        return {}
    told = {key: stated[key] for key in ("sigma_data", "sigma_min", "sigma_max", "rho")}
    return {"_class_name": EDM[0], "prediction_type": "epsilon", **told}


def _schedule(diffusers: Any, place: FilePath) -> dict[str, Any]:
    """The config of the scheduler in a folder, with the library's defaults."""
    with _read(place, SCHEDULER):
        config = dict(diffusers.DDPMScheduler.load_config(str(place), local_files_only=True))
        kind = getattr(diffusers, str(config.get("_class_name")), None)
        found = kind and kind.from_pretrained(str(place), local_files_only=True)
        return config if found is None else {**dict(found.config), "_class_name": config["_class_name"]}


def _velocity(
    diffusers: Any, network: nn.Module, schedule: Mapping[str, Any], flow: str
) -> tuple[Predicting, Path | None, str]:
    """(velocity, its path if that has no name, what the path is called) of a network and its schedule."""
    kind = str(schedule.get("_class_name"))
    if kind in MATCHED:
        if schedule.get("invert_sigmas"):
            raise UserError(f"{flow}: its scheduler inverts the sigmas, which no network here is called with")
        return FlowMatched(network, int(schedule["num_train_timesteps"])), None, LINEAR
    if kind in EDM:
        path = _karras(schedule, flow)
        sign = -1.0 if schedule.get("prediction_type") == "v_prediction" else 1.0
        return Preconditioned(network, path, float(schedule["sigma_data"]), sign), path, KARRAS
    made = getattr(diffusers, kind, None)
    products, prediction = _levels(flow, kind, made and made.from_config(dict(schedule)))
    levelled = scheduled(products)
    return Denoiser(network, levelled, len(products), prediction), levelled, LEVELLED


def _karras(schedule: Mapping[str, Any], flow: str) -> Karras:
    low, high, data, rho = (
        float(schedule.get(name, default))
        for name, default in (("sigma_min", 0.002), ("sigma_max", 80.0), ("sigma_data", 0.5), ("rho", 7.0))
    )
    if not (0 < low < high and data > 0 and rho > 0) or schedule.get("prediction_type") not in PREDICTIONS[:2]:
        raise UserError(
            f"{flow}: its schedule has sigma_min={low:g}, sigma_max={high:g}, sigma_data={data:g}, rho={rho:g} and "
            f"predicts {schedule.get('prediction_type')!r}; give 0 < sigma_min < sigma_max, and epsilon or v_prediction"
        )
    return Karras(low, high, rho)


def _levels(flow: str, kind: str, found: Any) -> tuple[Tensor, str]:
    """(prod(1 - beta_i) of every level (K,) float64, prediction type) of the library's scheduler."""
    products, prediction = getattr(found, "alphas_cumprod", None), found and found.config.get("prediction_type")
    if products is None or prediction not in PREDICTIONS:
        what = f"has no levels of noise ({kind})" if products is None else f"predicts {prediction!r}"
        raise UserError(
            f"{flow}: its scheduler {what}; give one with alphas_cumprod, such as DDPMScheduler, that predicts "
            f"{', '.join(PREDICTIONS)}, or one of {', '.join((MATCHED[0], EDM[0]))}"
        )
    if len(products) < 2 or not bool((products > 0).all()):
        raise UserError(
            f"{flow}: a level of its schedule is pure noise, where the velocity is undefined; set "
            "rescale_betas_zero_snr to false"
        )
    return products.double(), prediction


def _facts(source: str, kind: str, config: Mapping[str, Any], path: str, latents: Latents | None) -> ModelSpec:
    given, half = config.get("sample_size", config.get("size")), (0.5, 0.5, 0.5)
    high, wide = (given, given) if isinstance(given, int) else given
    factor = 1 if latents is None else latents.factor
    size = factor * high if high == wide else (factor * high, factor * wide)
    grey = latents is None and config.get("in_channels") == 1
    return ModelSpec(
        size, half, half, 0, channel_order="grey" if grey else "RGB", path=path, time_scale=1.0, source=source
    )
