"""The autoencoder of a flow on latents: diffusers' AutoencoderKL, and the scaling between its latents and the flow's.

    code = (mode(encoder(2 picture - 1)) - shift) scale,   picture = (decoder(code / scale + shift) + 1) / 2

The mode of the encoder's distribution is taken and not a draw, so that a picture has one code. Rombach et al. 2022,
arXiv 2112.10752, sec. 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from bothways.models.libraries.hub import library, reading, silenced
from bothways.types import UserError

KIND, CONFIG, WEIGHTS = "AutoencoderKL", "config.json", "diffusion_pytorch_model.safetensors"
AT_ONCE = 8  # pictures that are encoded or decoded together: at 256 pixels one takes about a hundred times its size


@final
class Latents(nn.Module):
    """A frozen autoencoder: pictures (B,3,H,W) in [-1, 1] to latents (B,C,H/factor,W/factor) and back.

    config: of the AutoencoderKL. scale, shift: of a latent, a number or one a channel; the config's where None.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, vae: nn.Module, config: Mapping[str, Any], scale: float | None = None) -> None:
        super().__init__()
        self.vae, self.config, self.stated = vae.eval().requires_grad_(False), dict(config), scale
        own = float(config.get("scaling_factor") or 0.18215) if scale is None else scale
        shift: Any = (config.get("shift_factor") or 0.0) if scale is None else 0.0
        stretch: Any = own
        if scale is None and config.get("latents_mean") and config.get("latents_std"):
            shift, stretch = config["latents_mean"], [own / deviation for deviation in config["latents_std"]]
        self.register_buffer("scale", _column(stretch))
        self.register_buffer("shift", _column(shift))

    def __deepcopy__(self, memo: dict[int, Any]) -> Latents:
        """Itself: it is never trained, and as large as many a network."""
        return self

    @property
    def channels(self) -> int:
        return int(self.config["latent_channels"])

    @property
    def factor(self) -> int:
        """Pixels of a side of a picture for one of a latent."""
        return 2 ** (len(self.config["block_out_channels"]) - 1)

    def code(self, image: Tensor) -> Tensor:
        """(B,3,H,W) in [-1, 1] -> (B,C,h,w) in the flow's units."""
        return self._in_parts(image, self._encoded)

    def picture(self, code: Tensor) -> Tensor:
        """The inverse, not clamped."""
        return self._in_parts(code, self._decoded)

    def _in_parts(self, given: Tensor, made: Any) -> Tensor:
        own = next(self.vae.parameters()).dtype
        parts = given.split(AT_ONCE) if len(given) else [given]
        return torch.cat([made(part.to(own)).to(given.dtype) for part in parts])

    def _encoded(self, image: Tensor) -> Tensor:
        found = self.vae.encode(image).latent_dist.mode()  # type: ignore[operator]
        return (found - self.shift.to(found)) * self.scale.to(found)

    def _decoded(self, code: Tensor) -> Tensor:
        return self.vae.decode(code / self.scale.to(code) + self.shift.to(code)).sample  # type: ignore[operator]


def _column(given: float | Sequence[float]) -> Tensor:
    return torch.tensor(given, dtype=torch.float64).reshape(1, -1, 1, 1)


def from_folder(place: Path, flow: str, scale: float | None = None) -> Latents:
    """The autoencoder of a folder as diffusers saves it. flow: its address, for messages. Raises UserError for else."""
    diffusers = library("diffusers")
    with silenced("diffusers"), reading("diffusers", str(place), CONFIG):
        config = dict(diffusers.AutoencoderKL.load_config(str(place), local_files_only=True))
    _check(config, flow)
    with silenced("diffusers"), reading("diffusers", str(place), WEIGHTS):
        vae, report = diffusers.AutoencoderKL.from_pretrained(
            str(place), use_safetensors=True, low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
    if report["missing_keys"]:
        raise UserError(f"{flow}: {place / WEIGHTS} holds no {report['missing_keys'][0]}; give the whole file")
    return Latents(vae.float(), config, scale)


def built(facts: Mapping[str, Any]) -> Latents:
    """The autoencoder of ``facts_of``, whose weights are to be loaded by the caller."""
    diffusers = library("diffusers")
    _check(facts["config"], "the card")
    with silenced("diffusers"), reading("diffusers", "the card", "its autoencoder"):
        vae = diffusers.AutoencoderKL.from_config(dict(facts["config"]))
    return Latents(vae.float(), facts["config"], facts["scale"])


def facts_of(latents: Latents) -> dict[str, Any]:
    """What a card keeps of an autoencoder."""
    return {"config": latents.config, "scale": latents.stated}


def _check(config: Mapping[str, Any], flow: str) -> None:
    if config.get("_class_name", KIND) != KIND:
        raise UserError(
            f"{flow} draws the latents of an autoencoder {config['_class_name']}, and those of {KIND} are read; "
            "type PATH.py:FUNCTION"
        )
    if int(config.get("in_channels", 3)) != 3 or int(config.get("out_channels", 3)) != 3:
        raise UserError(f"{flow}: its autoencoder has {config['in_channels']} channels of a picture, and not 3")
