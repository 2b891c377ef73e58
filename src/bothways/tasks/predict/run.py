"""What a classifier calls pictures: the most probable classes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.corrupted import Picture, batched
from bothways.data.sources import SUFFIXES
from bothways.judging.classes import load_classified
from bothways.types import ModelSpec, UserError, VisionModel


@dataclass(frozen=True)
class Answer:
    """One class: its name (its number where the model has no names), its number, and its probability."""

    name: str
    number: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a picture is called, the most probable first; none, and why, for one that cannot be read."""

    image: str
    answers: tuple[Answer, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def predict(
    model: str | Path | nn.Module | VisionModel,
    images: str | Path | Tensor | Sequence[str | Path],
    **options: Any,
) -> list[Prediction]:
    """The most probable classes of pictures, by the softmax of the model's outputs; in the order of the pictures.

    model: as for ``evaluate``. images: an image file or a folder of them, several, or a tensor (B,3,H,W) in [0,1].
    options: top (5), batch (32), spec, weights, device, dtype.
    A file is resized so that its shorter side fits the model, and the centre is cut out; one that cannot be read has
    no answers and says why. Raises UserError for what cannot be asked.
    """
    return list(predictions(model, images, **options))


def predictions(
    model: str | Path | nn.Module | VisionModel,
    images: str | Path | Tensor | Sequence[str | Path],
    *,
    top: int = 5,
    batch: int = 32,
    spec: ModelSpec | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Iterator[Prediction]:
    """:func:`predict`, a batch after the other; everything that can be refused is refused here, at once."""
    if top < 1 or batch < 1:
        raise UserError(f"--top {top}, --batch {batch}: type 1 or more")
    if isinstance(images, Tensor) and (images.ndim != 4 or images.shape[1] != 3):
        raise UserError(f"predict: images have shape {tuple(images.shape)}; give (B, 3, H, W) in [0, 1], or files")
    found = load_classified(model, spec, weights=weights, device=device, dtype=dtype)
    if isinstance(images, Tensor):
        return _of_tensor(found, images, top, batch)
    return _of_files(found, image_files([images] if isinstance(images, str | Path) else images), top, batch)


def image_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files, and those below the folders, in order. Raises UserError for a folder without any."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no image file lies in it or below it; type another folder, or files")
        files += inside
    if not files:
        raise UserError("predict: no picture was given; type an image file")
    return files


def _of_tensor(model: VisionModel, images: Tensor, top: int, batch: int) -> Iterator[Prediction]:
    for first in range(0, len(images), batch):
        for place, answers in enumerate(_answers(model, images[first : first + batch], top), start=first):
            yield Prediction(str(place), answers)


def _of_files(model: VisionModel, files: list[Path], top: int, batch: int) -> Iterator[Prediction]:
    size = (model.spec.height, model.spec.width)
    for first in range(0, len(files), batch):
        part = files[first : first + batch]
        skipped: dict[str, str] = {}
        answers: dict[int, tuple[Answer, ...]] = {}
        for read in batched((Picture(k, str(k), file, -1) for k, file in enumerate(part)), size, batch, skipped):
            answers |= dict(zip(read.places.tolist(), _answers(model, read.images, top), strict=True))
        for place, file in enumerate(part):
            yield Prediction(str(file), answers.get(place, ()), skipped.get(str(place), ""))


def _answers(model: VisionModel, images: Tensor, top: int) -> list[tuple[Answer, ...]]:
    with torch.no_grad():
        outputs = model.outputs(images.to(getattr(model, "device", "cpu")))
    shares, numbers = outputs.cpu().double().softmax(1).topk(min(top, outputs.shape[1]), 1)
    return [
        tuple(Answer(model.spec.class_name(k), k, share) for k, share in zip(row, found, strict=True))
        for row, found in zip(numbers.tolist(), shares.tolist(), strict=True)
    ]
