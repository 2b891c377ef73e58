"""Evaluation of generated images by independent models: hit rates, and feature distances with a real-vs-real baseline.

    hit rate    share of pictures whose predicted class has the target name, with its Wilson interval
    distance    d(drawn, rest) beside d(pretend, rest), where real features = pretend + rest and |pretend| = |drawn|

Success on a model that supplied the gradient proves nothing, so each verdict records whether its judge did. A Frechet
distance grows as the sets shrink, so each is reported beside its baseline: the distance of as many real images, which
is the score of a method that draws real images. The hit intervals treat pictures as independent; pictures coupled by a
shared statistic (BatchNorm over a batch) are effectively fewer trials.

Sources: Heusel et al. 2017, arXiv 1706.08500 (Frechet); Binkowski et al. 2018, arXiv 1801.01401 (kernel); Wilson 1927.
Departure: the features are each judge's own penultimate layer, averaged over space, not those of an Inception network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bothways.budget import AtOnce
from bothways.models.class_names import matches
from bothways.models.classifiers import target_of
from bothways.numerics import measures
from bothways.numerics.draws import generator
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.modules import check_finite, evaluating
from bothways.numerics.pyramid import resize
from bothways.progress import counted, stage
from bothways.representation.tuning.targets import NUMBERS, said
from bothways.synthesis.objectives.terms import features_layer, vectors
from bothways.types import UserError, VisionModel

FRECHET_AT_LEAST = 50  # pictures: below, the covariance is mostly chance, and so is the distance
KERNEL_AT_LEAST = 5  # pictures: below, the interval says nothing
SPLITS = 5  # random splits of the reference that each distance is averaged over


@dataclass(frozen=True)
class Reference:
    """Features of real images under one judge.

    features: (N,D), from :func:`penultimate` of the same judge; labels: (N,) class indices; source: which images.
    Raises UserError when the two lengths differ.
    """

    features: Tensor
    labels: Tensor
    source: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.labels) != len(self.features):
            raise UserError(
                f"Reference: features {tuple(self.features.shape)} and {len(self.labels)} labels do not match; "
                "give features (N, D), one row per image, and N labels"
            )


@dataclass(frozen=True)
class Verdict:
    """Results of one judge on N pictures; None for what could not be measured, with the reason in ``absent``.

    called, called_names, confidence: (N,) the predicted class, its name, its probability; None for an encoder.
    wanted_probability: (N,) the probability of the target name, NaN if the judge has no such class.
    n: number of pictures whose target class this judge has; hit_rate and hit_interval (95 %) are over these.
    frechet, kernel, diversity: of the drawn pictures; ``*_real``: of as many real ones. No frechet below
    ``FRECHET_AT_LEAST`` pictures, no kernel below ``KERNEL_AT_LEAST``. kernel_interval: 95 %, over drawn pictures and
    real ones.
    n_real: pictures on the small side of each distance, drawn and pretend alike: N, or less for a small reference.
    """

    judge: str
    gave_gradient: bool
    called: Tensor | None
    called_names: tuple[str, ...] | None
    confidence: Tensor | None
    wanted_probability: Tensor | None
    n: int
    hit_rate: float | None
    hit_interval: tuple[float, float]
    mean_confidence: float | None
    frechet: float | None = None
    frechet_real: float | None = None
    kernel: float | None = None
    kernel_interval: tuple[float, float] | None = None
    kernel_real: float | None = None
    diversity: float | None = None
    diversity_real: float | None = None
    n_real: int = 0
    reference: str = ""
    absent: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain numbers, strings and lists for JSON; NaN becomes None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def penultimate(model: VisionModel, images: Tensor, batch: int = 64) -> tuple[Tensor | None, Tensor]:
    """Penultimate features (N,D), or None where none is known, and logits (N,K), in one pass.

    The features are those of the spec's feature layer, else what enters a classifier's linear head, or what an encoder
    gives.
    images: (N,3,H,W) in [0,1], of any size; resized to the judge's. batch: pictures per pass; it affects memory only.
    Both are float32 on the CPU. Raises UserError for pictures that are not finite, or a layer whose output is neither
    (B,C,h,w), (B,tokens,C) nor (B,C).
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0 or not bool(torch.isfinite(images).all()):
        raise UserError(
            f"{model.name}: cannot judge images of shape {tuple(images.shape)}; give finite ones, (N, 3, H, W), N >= 1"
        )
    spec, layer = model.spec, features_layer(model)
    with torch.no_grad(), evaluating(model), stage("features of pictures", -(-len(images) // batch)) as now:

        def seen_of(chunk: Tensor) -> dict[str, Tensor]:
            chunk = chunk.to(getattr(model, "device", chunk.device))
            if chunk.shape[-2:] != (spec.height, spec.width):
                chunk = resize(chunk, (spec.height, spec.width))
            found = model.features(chunk, ["outputs"] if layer is None else [layer, "outputs"])
            check_finite(found["outputs"], f"model {model.name!r} gives outputs")
            now.advance()
            return {"logits": found["outputs"].float().cpu()} | (
                {} if layer is None else {"features": vectors(found[layer], layer).float().cpu()}
            )

        seen = AtOnce("pictures", batch).over(images, seen_of)
    logits = torch.cat([part["logits"] for part in seen])
    return (None if layer is None else torch.cat([part["features"] for part in seen])), logits


def _calls(model: VisionModel, logits: Tensor, target_names: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a Verdict that depend on the logits."""
    spec = model.spec
    target = target_of(model)
    if spec.count == 0 or target == NUMBERS:
        nothing = dict.fromkeys(("called", "called_names", "confidence", "wanted_probability", "hit_rate"))
        return {**nothing, "mean_confidence": None, "n": 0, "hit_interval": wilson_interval(0, 0)}
    if logits.ndim != 2 or logits.shape[1] != spec.count:
        raise UserError(
            f"{model.name}: outputs are {tuple(logits.shape)} but its ModelSpec has {spec.count} classes; "
            "state the classes that the outputs have, or classes=0 for an encoder"
        )
    probability = said(logits, target)
    confidence, called = probability.max(1)
    names = [spec.class_name(k) for k in range(spec.count)]
    called_as = called.tolist()

    places = {name: matches(names, name) for name in dict.fromkeys(target_names or ())}
    targets = [(i, list(places[name])) for i, name in enumerate(target_names or ()) if places[name]]
    hits = sum(called_as[i] in own for i, own in targets)
    chance = torch.full((len(logits),), math.nan, dtype=torch.float64)
    for i, own in targets:  # summed over several, since ImageNet has two classes named "crane"
        chance[i] = probability[i, own].sum()
    return {
        "called": called,
        "called_names": tuple(names[k] for k in called_as),
        "confidence": confidence,
        "wanted_probability": chance if targets else None,
        "n": len(targets),
        "hit_rate": hits / len(targets) if targets else None,
        "hit_interval": wilson_interval(hits, len(targets)),
        "mean_confidence": float(confidence.mean()),
    }


def _against_real(drawn: Tensor, real: Tensor, seed: int) -> dict[str, Any]:
    """Distances of drawn pictures to real ones, and the baseline of as many real ones to the same real ones.

    A reference of fewer than 2N rows is halved, and only as many drawn pictures as half of it are compared, so that
    both distances have the same sample-size bias.
    """
    n = len(drawn) if len(real) >= 2 * len(drawn) else len(real) // 2
    pairs: list[tuple[str, Callable[[Tensor, Tensor], float]]] = []
    pairs += [("frechet", measures.frechet_distance)] if n >= FRECHET_AT_LEAST else []
    pairs += [("kernel", measures.kernel_distance)] if n >= KERNEL_AT_LEAST else []
    totals = dict.fromkeys([*(f"{name}{of}" for name, _ in pairs for of in ("", "_real")), "diversity_real"], 0.0)
    low = high = 0.0
    for split in range(SPLITS):
        order = torch.randperm(len(real), generator=generator(seed, float(split), "real-vs-real"))
        some = torch.randperm(len(drawn), generator=generator(seed, float(split), "drawn"))[:n]
        pretend, rest = real[order[:n]], real[order[n:]]
        for name, distance in pairs:
            totals[name] += distance(drawn[some], rest) / SPLITS
            totals[f"{name}_real"] += distance(pretend, rest) / SPLITS
        totals["diversity_real"] += measures.mean_pairwise_distance(pretend) / SPLITS
        if n >= KERNEL_AT_LEAST:
            ends = measures.kernel_interval(drawn[some], rest)
            low, high = low + ends[0] / SPLITS, high + ends[1] / SPLITS
    return {**totals, "kernel_interval": (low, high) if n >= KERNEL_AT_LEAST else None, "n_real": n}


def _unknown(model: VisionModel, target_names: Sequence[str] | None, n: int) -> str:
    """Why a classifier recognises no picture, where it has none of the classes; else ""."""
    if n or not target_names or not model.spec.count:
        return ""
    unnamed = ", since its classes have no names: state ModelSpec(classes=[...])"
    return f"no class is called {target_names[0]!r}" + unnamed * isinstance(model.spec.classes, int)


def _too_few(name: str, n: int) -> str:
    """Which distances are absent for so few pictures, and how many they need; "" if none is."""
    if n >= FRECHET_AT_LEAST:
        return ""
    if n >= KERNEL_AT_LEAST:
        return f"{name}: no Fréchet distance, which needs {FRECHET_AT_LEAST} pictures and as many again of real ones"
    return f"{name}: no distances of {n} pictures; the kernel distance needs {KERNEL_AT_LEAST}, with twice as many real"


def _distances(model: VisionModel, drawn: Tensor | None, reference: Reference | None, seed: int) -> dict[str, Any]:
    """The fields of a Verdict that depend on the features, or the reason why they are absent."""
    name = model.name
    if drawn is None:
        return {"absent": f'{name}: no features; name its last block in ModelSpec(..., feature_layer="...")'}
    if len(drawn) < 2:
        return {"absent": f"{name}: no distances of one picture; draw two or more"}
    found: dict[str, Any] = {"diversity": measures.mean_pairwise_distance(drawn)}
    if reference is None:
        found["absent"] = f"{name}: no real images to compare with; type --data FOLDER_OR_PARQUET"
        return found
    if reference.features.shape[1] != drawn.shape[1]:
        raise UserError(
            f"{name}: its features have {drawn.shape[1]} numbers and its reference {reference.features.shape[1]}; "
            f"make the reference with penultimate({name}, real_images)"
        )
    found["reference"] = reference.source
    if len(reference.features) < 4:
        found["absent"] = f"{name}: a reference of {len(reference.features)} images cannot be halved; give 4 or more"
        return found
    against = _against_real(drawn, reference.features, seed)
    return {**found, **against, "absent": _too_few(name, against["n_real"])}


def judge(
    images: Tensor,
    target_names: Sequence[str] | None,
    judges: Sequence[VisionModel],
    references: Mapping[str, Reference] | None = None,
    gradient_models: Collection[str] = (),
    seed: int = 0,
) -> list[Verdict]:
    """Evaluate pictures by each judge: one :class:`Verdict` per judge, in their order.

    images: (N,3,H,W) in [0,1]. target_names: the class name each picture was drawn for, or None without a target.
    Classes are matched by name (models/class_names.py), since the numbers of two models mean different things; the
    classes of a judge without names are "0", "1", ... Classes of one name count as one.
    references: real images by judge name. gradient_models: names of the models that supplied the gradient.
    seed: of the splits of the reference. Raises UserError for a wrong number of names, and as :func:`penultimate`.
    """
    if isinstance(target_names, str) or (target_names is not None and len(target_names) != len(images)):
        raise UserError(
            f"judge: {len(images)} images and target_names={target_names!r}; give one class name per image, or None"
        )
    verdicts = []
    for model in counted(judges, "judging"):
        features, logits = penultimate(model, images)
        fields = _calls(model, logits, target_names)
        fields |= _distances(model, features, (references or {}).get(model.name), seed)
        if unknown := _unknown(model, target_names, fields["n"]):
            also = str(fields.get("absent", "")).removeprefix(f"{model.name}: ")
            fields["absent"] = f"{model.name}: {'; '.join(filter(None, (unknown, also)))}"
        verdicts.append(Verdict(judge=model.name, gave_gradient=model.name in gradient_models, **fields))
    return verdicts


def mean_blur(images: Tensor, width: int = 3) -> Tensor:
    """Box blur: the mean over width x width pixels, edges replicated; (N,3,H,W) -> the same shape.

    A hit that does not survive a 3x3 mean was due to pixel noise. Raises UserError for an even width.
    """
    if width < 1 or width % 2 == 0:
        raise UserError(f"mean_blur: width={width} has no middle pixel; give an odd one such as 3")
    reach = width // 2
    return F.avg_pool2d(F.pad(images, (reach,) * 4, mode="replicate"), width, stride=1)
