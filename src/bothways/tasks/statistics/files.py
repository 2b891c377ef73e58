"""The files of image-prior statistics of a model.

    spread/LAYER/{mean,mean_std,log_std,log_std_std}   (C,) each: the spread of its channel statistics over pictures
    features/LAYER/{mean,std}                          (D,) each: of its features, averaged over space, and its logits
    rows/LAYER                                         (N,D): the features of N pictures, averaged over space
    names                                              uint8: the names of these pictures as UTF-8, a line each
    factor (k,S) int8, factor_scale (k,)               the leading joint directions of all of these, in standard
                                                       deviations; S runs over the layers by name, then the features

A model with a card has such a file next to it (``NAME.statistics.safetensors``), with feature vectors of test pictures.
"""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bothways.configs import recorded
from bothways.data.statistics import STATISTICS, Statistics, is_statistics
from bothways.models.adapter import Adapter
from bothways.models.catalogue import SCALE, dequantised, kept_with, read_statistics, statistics_file
from bothways.numerics.draws import Draws
from bothways.numerics.layers import SIDES
from bothways.reading import check_file, table_of
from bothways.runs.provenance import fingerprint
from bothways.synthesis.config import RANK
from bothways.synthesis.objectives.terms import vectors
from bothways.synthesis.sampling import (
    OUTPUTS,
    Part,
    Space,
    features_name,
    measure_space,
    row_parts,
    statistics_name,
)
from bothways.synthesis.statistics import Spread, channel_statistics
from bothways.tasks.statistics.config import ROW_BYTES, ROWS
from bothways.types import UserError

MADE_OF = "made_of"  # the entry of the metadata
HALF_AT_MOST = 6e4  # larger numbers overflow half precision
SAME = 0.01  # of the largest value: half precision rounds before or after the mean over space
SPREAD_PARTS = ("mean", "mean_std", "log_std", "log_std_std")


def stored_statistics(model: Adapter, data: Any) -> dict[str, Tensor]:
    """The statistics of the file or object ``data``, if it is one, else those stored with the model; {} for none.

    Raises UserError for those of another model.
    """
    if not is_statistics(data):
        return _kept(model)
    name, live = str(recorded(data)), isinstance(data, Statistics)
    found = dequantised(data.tensors, name) if live else read_statistics(Path(name))
    if "factor" not in found or not _fits(model, found):
        raise UserError(
            f"data {name!r} holds no statistics of model {model.name!r}; "
            f"type bothways statistics {model.typed} --data REAL_PICTURES --out statistics.safetensors, and that file"
        )
    _check_made_of(model, name, _of_metadata(data.facts, name) if live else _told(Path(name)))
    return found


def _kept(model: Adapter) -> dict[str, Tensor]:
    """The statistics that are kept with a model, unless they tell that its weights or preprocessing are others."""
    file = statistics_file(model.name)
    if file is None or ((told := _told(file)) and told != json.loads(facts_of(model)[MADE_OF])):
        return {}
    return kept_with(model)


def facts_of(model: Adapter) -> dict[str, str]:
    """The metadata of a statistics file: the model's weights by their fingerprint, and what its pictures go through."""
    spec = model.spec
    seen = {"mean": list(spec.mean), "std": list(spec.std), "channel_order": spec.channel_order}
    found = {"model": model.name, "weights": fingerprint(model.module), "seen": seen}
    return {MADE_OF: json.dumps(found)}  # in one entry: safetensors writes several in any order


def _check_made_of(model: Adapter, name: str, told: Mapping[str, Any]) -> None:
    """Raise UserError for those measured with other weights or another preprocessing; warn where they do not say.

    told: what they tell of the model that they were measured with.
    """
    if not told:
        warnings.warn(
            f"data {name!r} does not say which weights it was measured with, so that is not checked", stacklevel=3
        )
        return
    own = json.loads(facts_of(model)[MADE_OF])
    for part, what in (("weights", "weights"), ("seen", "preprocessing")):
        if told[part] != own[part]:
            out = f"--out {shlex.quote(name)} --overwrite" if name.endswith(STATISTICS) else "--out FILE.safetensors"
            again = f"type bothways statistics {model.typed} --data REAL_PICTURES {out}"
            raise UserError(
                f"data {name!r} was measured with other {what} (of {told['model']}) than those of model "
                f"{model.name!r}; {again}, or give the --weights that it was measured with"
            )


def _told(path: Path) -> dict[str, Any]:
    """What a statistics file tells of the model that it was measured with; {} if nothing."""
    check_file(path)
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _untold(str(path), error) from error
    return _of_metadata(told, str(path))


def _of_metadata(told: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        found = table_of(told.get(MADE_OF, "{}").encode(), name)
        if found and not {"model", "weights", "seen"} <= set(found):
            raise ValueError(f"{MADE_OF} lacks an entry")
    except (ValueError, TypeError) as error:
        raise _untold(name, error) from error
    return found


def _untold(name: str, error: Exception) -> UserError:
    return UserError(f"data {name!r} does not say what it was measured with ({error}); measure it again")


def _fits(model: Adapter, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the model has the layers of a statistics file, with the same widths."""
    spread = read_spread(tensors)
    features = {key.split("/")[1]: len(value) for key, value in tensors.items() if key.startswith("features/")}
    named = {OUTPUTS, *(f"{name}{side}" for name in ("", *model.layers()) for side in SIDES)}
    layers = {*spread, *features}
    if not layers <= named:
        return False
    grey = torch.full((1, 3, model.spec.height, model.spec.width), 0.5, device=model.device)
    with torch.no_grad():
        seen = model.features(grey, sorted(layers))
    wide = {layer: channel_statistics(seen[layer])[0].shape[1] for layer in spread}
    return wide == {layer: len(facts.mean) for layer, facts in spread.items()} and all(
        vectors(seen[layer], layer).shape[1] == width for layer, width in features.items()
    )


def read_spread(tensors: Mapping[str, Tensor]) -> dict[str, Spread]:
    """Read {layer: Spread} from the tensors of a statistics file."""
    layers = sorted({key.split("/")[1] for key in tensors if key.startswith("spread/")})
    for layer in layers:
        for part in SPREAD_PARTS:
            value, mean = tensors.get(f"spread/{layer}/{part}"), tensors.get(f"spread/{layer}/mean")
            if value is None or mean is None or value.ndim != 1 or value.shape != mean.shape:
                raise UserError(f"a file of statistics holds no whole spread/{layer}/{part}; measure it again")
    return {layer: Spread(*(tensors[f"spread/{layer}/{part}"] for part in SPREAD_PARTS)) for layer in layers}


def read_space(tensors: Mapping[str, Tensor]) -> Space | None:
    """Read the Space from the tensors of a statistics file; None if it holds none."""
    if "factor" not in tensors:
        return None
    parts = {
        statistics_name(layer): Part(torch.cat([s.mean, s.log_std]), torch.cat([s.mean_std, s.log_std_std]))
        for layer, s in read_spread(tensors).items()
    }
    for layer in sorted({key.split("/")[1] for key in tensors if key.startswith("features/")}):
        parts[features_name(layer)] = Part(tensors[f"features/{layer}/mean"], tensors[f"features/{layer}/std"])
    rows = {
        features_name(key.removeprefix("rows/")): value for key, value in tensors.items() if key.startswith("rows/")
    }
    return Space(parts, tensors["factor"], rows, _names(tensors))


def _names(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(bytes(tensors["names"].byte().tolist()).decode().split("\n")) if "names" in tensors else ()


def features_mean(model: Adapter, data: str | Path | None = None, layer: str | None = None) -> Tensor | None:
    """Mean (d,) over real pictures of the model's features, averaged over space; None if it is not known.

    data: a statistics file, or None for the statistics that are kept with the model. layer: default is the feature
    layer, whose mean is also that of a layer with the same values. Raises UserError for a file of another model.
    """
    stored, own = stored_statistics(model, data), model.feature()
    mean = stored.get(f"features/{layer or own}/mean")
    if mean is None and layer is not None and f"features/{own}/mean" in stored and _same(model, own, layer):
        mean = stored[f"features/{own}/mean"]
    return None if mean is None else mean.to(model.device)


@torch.no_grad()
def _same(model: Adapter, layer: str, other: str) -> bool:
    """Whether two layers give the same values, averaged over space: the last block and the input of the head, often."""
    noise = Draws([0]).uniform((3, model.spec.height, model.spec.width))
    one, two = (vectors(value, name) for name, value in model.features(noise.to(model.device), [layer, other]).items())
    return one.shape == two.shape and bool((one - two).abs().max() <= SAME * one.abs().max())


def with_heads(models: Sequence[Adapter], space: Space) -> Space:
    """The Space with the rows of the heads that its features enter; as it is where its rows are of no picture.

    models: those that the Space is of, in its order.
    """
    heads = {}
    for index, model in enumerate(models if space.names else ()):
        if (head := model.head()) is None:
            continue
        for layer in space.of_features(index):
            if layer == head[0] or (layer != OUTPUTS and _same(model, layer, head[0])):
                heads[features_name(layer, index)] = head[1].detach()
    return replace(space, heads=heads)


def rows_to_keep(asked: int | None, parts: Mapping[str, int]) -> int:
    """The number of pictures whose rows are stored: as asked, else as many as the default size holds.

    parts: {name of a part: its width}.
    """
    width = sum(parts[name] for name in row_parts(parts))
    if not width:
        return 0
    return min(ROWS, int(ROW_BYTES / (2 * width))) if asked is None else asked


def as_tensors(space: Space) -> dict[str, Tensor]:
    """The tensors that store the Space of a model: half precision, and 8 bits for the directions."""
    kept: dict[str, Tensor] = {}
    for name, part in space.parts.items():
        _, kind, layer = name.split("/")
        if kind == "features":
            kept |= {f"features/{layer}/mean": part.mean, f"features/{layer}/std": part.std}
        else:
            kept |= {f"spread/{layer}/{key}": getattr(part.spread(), key) for key in SPREAD_PARTS}
    kept |= {f"rows/{name.split('/')[2]}": rows for name, rows in space.rows.items()}
    kept = {key: value.cpu().contiguous() for key, value in kept.items()}
    half = {key: v.half() if bool(v.abs().max() < HALF_AT_MOST) else v for key, v in kept.items()}
    if space.names:
        told = "\n".join(name.replace("\n", " ") for name in space.names)
        half["names"] = torch.tensor(list(told.encode()), dtype=torch.uint8)
    return half | quantised("factor", space.factor)


def quantised(name: str, rows: Tensor) -> dict[str, Tensor]:
    """Quantise rows (k,S) to int8 (-127..127) with a scale per row."""
    scale = (rows.abs().amax(1) / 127).clamp_min(1e-6).half().float()
    whole = (rows / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    return {name: whole.cpu().contiguous(), name + SCALE: scale.cpu().half()}


def measured_layers(
    model: Adapter, chosen: Sequence[str] = (), features: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """(layers of the channel statistics, layers averaged over space: features and the logits of a classifier).

    chosen: replaces the default layers of the channel statistics. features: replaces the model's feature layer.
    Raises UserError for a layer that does not give one vector a picture.
    """
    layers = sorted(chosen or model.statistics_layers())
    averaged = {*(map(str, features) if features else [model.feature()])} | ({OUTPUTS} if model.spec.count else set())
    with torch.no_grad():
        seen = model.features(
            torch.full((2, 3, model.spec.height, model.spec.width), 0.5, device=model.device), sorted(averaged)
        )
    for layer, value in seen.items():
        if value.ndim not in (2, 3, 4) or len(value) != 2:
            raise UserError(
                f"model {model.name!r}: layer {layer!r} gives {tuple(value.shape)} for two pictures, not a map, tokens "
                f"or a vector each; type --features NAME (bothways layers {model.typed} lists them)"
            )
    return layers, sorted(averaged)


def space_of(model: Adapter, images: Tensor, rank: int = RANK) -> Space:
    """The Space of one model over real pictures (N,3,H,W), in [0,1] or as bytes, its layers by name."""
    layers, features = measured_layers(model)
    return measure_space([model], images.to(model.device), [layers], [features], rank=rank)
