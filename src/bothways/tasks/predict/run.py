"""Predict the most probable classes of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.data.corrupted import Picture, batched
from bothways.data.sources import SUFFIXES
from bothways.judging.classes import load_classified
from bothways.runs.experiment import Experiment
from bothways.tasks.predict.config import PredictConfig
from bothways.tasks.predict.result import Answer, Prediction
from bothways.tasks.work import Where, Work
from bothways.types import Frame, RunError, UserError, VisionModel


@final
@dataclass
class PredictWork(Work):
    """A run of ``predict``. images: (N,3,H,W) in [0,1], or files."""

    model: VisionModel
    images: Tensor | list[Path]
    top: int
    batch: int
    experiment: Experiment = field(default_factory=Experiment)
    predictions: list[Prediction] = field(default_factory=list)
    doing = "predicting"
    done_word = "predicted"

    @property
    def steps(self) -> int:
        return -(-len(self.images) // self.batch)

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every batch."""
        for step, first in enumerate(range(0, len(self.images), self.batch), 1):
            part = self.images[first : first + self.batch]
            of_part = (
                _of_tensor(self.model, part, self.top, first) if isinstance(part, Tensor) else self._of_files(part)
            )
            self.predictions += of_part
            yield Frame(step, step / self.steps)

    def _of_files(self, files: list[Path]) -> list[Prediction]:
        size = (self.model.spec.height, self.model.spec.width)
        skipped: dict[str, str] = {}
        answers: dict[int, tuple[Answer, ...]] = {}
        pictures = (Picture(place, str(place), file, -1) for place, file in enumerate(files))
        for read in batched(pictures, size, self.batch, skipped):
            answers |= dict(zip(read.places.tolist(), _answers(self.model, read.images, self.top), strict=True))
        return [
            Prediction(str(file), answers.get(place, ()), skipped.get(str(place), ""))
            for place, file in enumerate(files)
        ]

    def measures(self) -> dict[str, Any]:
        return {"predictions": [prediction.as_dict() for prediction in self.predictions]}

    def result(self, measures: dict[str, Any]) -> list[Prediction]:
        return self.predictions

    def as_json(self, result: list[Prediction]) -> Any:
        return [prediction.as_dict() for prediction in result]

    def summary(self, result: list[Prediction], out: Path | None) -> Iterator[str]:
        return map(str, result)

    def check(self, result: list[Prediction], page: Path | None) -> None:
        if result and all(prediction.error for prediction in result):
            raise RunError(f"none of {len(result)} pictures can be read; type image files, or a folder of them")


def prepare(config: PredictConfig, where: Where) -> PredictWork:
    """Prepare a run of ``predict``. Raises UserError for invalid input, before the first picture."""
    images = _tensor_of(config.images) if _are_tensors(config.images) else image_files(config.images)
    model = load_classified(config.model, config.spec, weights=config.weights, device=config.device, dtype=config.dtype)
    return PredictWork(model, images, config.top, config.batch)


def predict(model: Any, images: Tensor, top: int) -> list[Prediction]:
    """Predict classes of pictures (B,3,H,W) in [0,1], for other tasks. model: an address or a loaded model."""
    return _of_tensor(load_classified(model), images, top, 0)


def image_files(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among ``paths`` and below its folders, in order. Raises UserError if a folder has none."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no image file in it or below it; type another folder, or files")
        files += inside
    if not files:
        raise UserError("predict: no picture was given; type an image file")
    return files


def _are_tensors(images: Sequence[Any]) -> bool:
    return bool(images) and all(isinstance(image, Tensor) for image in images)


def _tensor_of(images: Sequence[Tensor]) -> Tensor:
    """Stack pictures of equal size. Raises UserError if the sizes differ."""
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1 or images[0].ndim != 3 or len(images[0]) != 3:
        raise UserError(f"predict: images of {next(iter(shapes))}; give (B, 3, H, W) in [0, 1], or files")
    return torch.stack(list(images))


def _of_tensor(model: VisionModel, images: Tensor, top: int, first: int) -> list[Prediction]:
    return [Prediction(str(place), found) for place, found in enumerate(_answers(model, images, top), start=first)]


def _answers(model: VisionModel, images: Tensor, top: int) -> list[tuple[Answer, ...]]:
    with torch.no_grad():
        outputs = model.outputs(images.to(getattr(model, "device", "cpu")))
    shares, numbers = outputs.cpu().double().softmax(1).topk(min(top, outputs.shape[1]), 1)
    return [
        tuple(Answer(model.spec.class_name(k), k, share) for k, share in zip(row, found, strict=True))
        for row, found in zip(numbers.tolist(), shares.tolist(), strict=True)
    ]
