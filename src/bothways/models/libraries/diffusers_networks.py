"""The networks of diffusers that are read as flows, each as (x (B,C,H,W), time (B,)) -> what it predicts, like x.

UNet2DModel                without classes, or with a fixed embedding of a class
DiTTransformer2DModel      at its null class; a half of the channels that holds variances is left out
SD3Transformer2DModel      with the embedding of the empty prompt

A network that is conditioned runs at its null condition. What its config does not tell stands in ``bothways.json``
beside it (``Stated``). Peebles & Xie 2022, arXiv 2212.09748; Esser et al. 2024, arXiv 2403.03206.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.models.libraries.hub import silenced
from bothways.models.nets.sit import SiT
from bothways.models.weights import read_tensors
from bothways.reading import Checked, is_there, read_table
from bothways.types import UserError

STATED = "bothways.json"
PROMPT = "prompt.safetensors"  # the embedding of the empty prompt, unless STATED names another file
EMBEDDINGS = ("prompt_embeds", "pooled_prompt_embeds")  # in that file: (L,D) and (P,)
KNOWN = {  # what a config calls it -> the class that builds it
    "UNet2DModel": "UNet2DModel",
    "DiTTransformer2DModel": "DiTTransformer2DModel",
    "Transformer2DModel": "DiTTransformer2DModel",  # as DiT was called before it had a class of its own
    "SD3Transformer2DModel": "SD3Transformer2DModel",
    "SiT": "SiT",  # ours, of a checkpoint of DiT
}
NULL, MEAN = "null", "mean"


class Stated(Checked):
    """``bothways.json``: facts that no file of diffusers states.

    klass ("class"): the number of the class at which the network runs, or "mean", the mean embedding of all.
    prompt: the file of the empty prompt's embedding. sigma_data, sigma_min, sigma_max, rho: of EDM's preconditioning.
    """

    prompt: str | None = None
    sigma_data: float | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0


@dataclass(frozen=True)
class Condition:
    """How a network is conditioned. klass: a class, ``NULL`` or ``MEAN``; shapes: of the embeddings of a prompt.

    embeddings: their values, which a card does not hold.
    """

    klass: int | str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What a card keeps."""
        return {"class": self.klass, "shapes": [list(shape) for shape in self.shapes]}


def condition_in(facts: Mapping[str, Any]) -> Condition:
    """The condition of ``Condition.facts``, with embeddings of zeros."""
    shapes = tuple(tuple(shape) for shape in facts.get("shapes", ()))
    return Condition(
        facts.get("class", ""), shapes, {n: torch.zeros(s) for n, s in zip(EMBEDDINGS, shapes, strict=False)}
    )


def stated_in(place: Path) -> dict[str, Any]:
    """The entries of ``bothways.json`` in a folder, with defaults; those alone where it is not there."""
    given = read_table(place / STATED, Stated) if is_there(place / STATED) else {}
    return {**Stated().model_dump(), **given}


def kind_of(config: Mapping[str, Any], flow: str) -> str:
    """The class that builds the network of a config. Raises UserError for one that is not read."""
    said = config.get("_class_name")
    if said not in KNOWN:
        raise UserError(
            f"{flow} is a {said}; type a UNet2DModel, a DiTTransformer2DModel or an SD3Transformer2DModel, or "
            "PATH.py:FUNCTION"
        )
    if said == "Transformer2DModel" and config.get("norm_type") != "ada_norm_zero":
        raise UserError(
            f"{flow} is a Transformer2DModel with norm_type {config.get('norm_type')!r}, and DiT has 'ada_norm_zero'; "
            "type PATH.py:FUNCTION"
        )
    return KNOWN[str(said)]


def condition_of(kind: str, config: Mapping[str, Any], place: Path, stated: Mapping[str, Any], flow: str) -> Condition:
    """The condition at which a network runs. Raises UserError for one that nothing states."""
    if kind == "SD3Transformer2DModel":
        return _empty_prompt(config, place, stated, flow)
    count = _classes(kind, config)
    if count is None:
        return Condition()
    chosen = stated.get("class", NULL if kind != "UNet2DModel" else None)
    if config.get("class_embed_type") == "identity":
        raise UserError(f"{flow} takes an embedding of a class from outside; type PATH.py:FUNCTION")
    if chosen is None and config.get("class_embed_type") is None:
        warnings.warn(
            f"{flow} has no null class: it runs at the mean embedding of its {count} classes; "
            f'state {{"class": NUMBER}} in {place / STATED} for one of them',
            stacklevel=4,
        )
        chosen = MEAN
    whole = isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < (count or 2**31)
    words = (NULL,) if kind != "UNet2DModel" else () if config.get("class_embed_type") else (MEAN,)
    if not (whole or chosen in words):
        known = f"a number from 0 to {count - 1}" if count else "a number"
        raise UserError(f'{flow} runs at one class: state {{"class": {known}}} in {place / STATED}, not {chosen!r}')
    return Condition(chosen)


def _classes(kind: str, config: Mapping[str, Any]) -> int | None:
    """How many classes a network has; 0 where nothing tells, None for a network without."""
    if kind == "UNet2DModel":
        own = config.get("num_class_embeds")
        return (int(own) if own else 0) if own or config.get("class_embed_type") else None
    return int(config.get("num_embeds_ada_norm") or 0) + 1 if kind == "DiTTransformer2DModel" else None


def _empty_prompt(config: Mapping[str, Any], place: Path, stated: Mapping[str, Any], flow: str) -> Condition:
    file = place / (stated.get("prompt") or PROMPT)
    depth, pooled = int(config["joint_attention_dim"]), int(config["pooled_projection_dim"])
    need = f"{EMBEDDINGS[0]} (L, {depth}) and {EMBEDDINGS[1]} ({pooled},)"
    if not is_there(file):
        raise UserError(f"{flow} reads a text: put the embedding of the empty prompt into {file}, {need}")
    held = read_tensors(file, "prompt")
    shapes = {name: list(value.shape) for name, value in held.items()}
    found = [held[name].float().squeeze(0) for name in EMBEDDINGS if name in held]
    fits = len(found) == 2 and found[0].ndim == 2 and found[0].shape[1] == depth and found[1].shape == (pooled,)
    if not fits or not all(bool(value.isfinite().all()) for value in found):
        raise UserError(f"{flow}: {file} holds {shapes or 'nothing'}; it needs {need}, finite")
    embeddings = dict(zip(EMBEDDINGS, found, strict=True))
    return Condition("", tuple(tuple(value.shape) for value in found), embeddings)


# ---- networks at their condition -------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """One embedding (D,) in place of those of all classes: any labels (B,) -> (B,D)."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__()
        self.vector = nn.Parameter(vector.detach().clone())

    def forward(self, labels: Tensor) -> Tensor:
        return self.vector.expand(len(labels), -1)


class OfClass(nn.Module):
    """A UNet2DModel whose table of classes is one embedding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.network(x, time, class_labels=torch.zeros(len(x), dtype=torch.int64, device=x.device)).sample


class OfLabel(nn.Module):
    """A DiTTransformer2DModel at one label; of its output the first channels, as many as x has."""

    def __init__(self, network: nn.Module, label: int) -> None:
        super().__init__()
        self.network, self.label = network, label

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        labels = torch.full((len(x),), self.label, device=x.device)
        return self.network(x, timestep=time, class_labels=labels).sample[:, : x.shape[1]]


class OfPrompt(nn.Module):
    """An SD3Transformer2DModel with one prompt: embeddings (L,D) and (P,)."""

    prompt: Tensor
    pooled: Tensor

    def __init__(self, network: nn.Module, prompt: Tensor, pooled: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("prompt", prompt)
        self.register_buffer("pooled", pooled)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        text, pooled = self.prompt.to(x.dtype).expand(len(x), -1, -1), self.pooled.to(x.dtype).expand(len(x), -1)
        return self.network(
            hidden_states=x, encoder_hidden_states=text, pooled_projections=pooled, timestep=time
        ).sample


def built(diffusers: Any, config: Mapping[str, Any]) -> nn.Module:
    """The network of a config, with initial weights."""
    kind = kind_of(config, "the card")
    if kind == "SiT":
        return SiT(**{name: value for name, value in config.items() if not name.startswith("_")})
    with silenced("diffusers"):
        return getattr(diffusers, kind).from_config(dict(config))


def at_condition(network: nn.Module, config: Mapping[str, Any], condition: Condition) -> nn.Module:
    """A network at its condition, as a module of (x, time); one without a condition as it is."""
    if condition.embeddings:
        return OfPrompt(network, *(condition.embeddings[name] for name in EMBEDDINGS))
    if condition.klass == "" or isinstance(network, SiT):
        return network
    if not hasattr(network, "class_embedding"):
        null = int(config["num_embeds_ada_norm"])
        return OfLabel(network, null if condition.klass == NULL else int(condition.klass))
    table: Any = network.class_embedding
    with torch.no_grad():
        if condition.klass == MEAN:
            vector = table.weight.mean(0)
        elif config.get("class_embed_type") == "timestep":
            label = network.time_proj(torch.tensor([int(condition.klass)]))  # type: ignore[operator]
            vector = table(label.to(next(table.parameters()).dtype))[0]
        else:
            vector = table.weight[int(condition.klass)]
    network.class_embedding = Fixed(vector)
    return OfClass(network)
