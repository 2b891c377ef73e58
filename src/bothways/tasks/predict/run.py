"""Predict the most probable classes of pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from bothways.data.corrupted import Picture, batched
from bothways.data.readers.fit import size_of
from bothways.data.readers.folders import is_picture, other_files
from bothways.data.readers.live import is_live, tensor_of
from bothways.judging.classes import load_with_classes
from bothways.models.classifiers import target_of
from bothways.numerics.modules import check_finite
from bothways.reading import at_home
from bothways.representation.tuning.targets import NUMBERS, largest, said
from bothways.runs.experiment import Experiment
from bothways.tasks.memory import check_outputs
from bothways.tasks.predict.config import PredictConfig
from bothways.tasks.predict.result import Answer, Prediction
from bothways.tasks.work import Where, Work
from bothways.types import Frame, RunError, UserError, VisionModel

Content = Path | np.ndarray


@final
@dataclass
class PredictWork(Work):
    """images: (N,3,H,W) in [0,1], of their own size; or files and (H,W,3) of bytes, which are fitted to the model's."""

    model: VisionModel
    images: Tensor | list[Content]
    top: int
    batch: int
    preprocess: str = "model"
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
                _of_tensor(self.model, part, self.top, first)
                if isinstance(part, Tensor)
                else self._of_files(part, first)
            )
            self.predictions += of_part
            yield Frame(step, step / self.steps)

    def _of_files(self, files: list[Content], first: int) -> list[Prediction]:
        size = size_of(self.model.spec, self.preprocess)
        skipped: dict[str, str] = {}
        answers: dict[int, tuple[Answer, ...]] = {}
        pictures = (Picture(place, str(place), file, -1) for place, file in enumerate(files))
        for read in batched(pictures, size, self.batch, skipped):
            answers |= dict(zip(read.places.tolist(), _answers(self.model, read.images, self.top), strict=True))
        return [
            Prediction(
                str(file if isinstance(file, Path) else first + place),
                answers.get(place, ()),
                skipped.get(str(place), ""),
            )
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
    images = contents_of(config.images)
    model = load_with_classes(
        config.model,
        config.spec,
        weights=config.weights,
        device=config.device,
        dtype=config.dtype,
        any_target=True,
    )
    check_outputs(model, config.batch, len(images))
    return PredictWork(model, images, config.top, config.batch, config.preprocess)


def predict(model: Any, images: Tensor, top: int) -> list[Prediction]:
    """The classes of a few pictures (B,3,H,W) in [0,1], for another task. model: an address, or what it loads."""
    return _of_tensor(load_with_classes(model, any_target=True), images, top, 0)


def contents_of(images: Sequence[Any]) -> Tensor | list[Content]:
    """Tensors of one size as one (N,3,H,W); everything else as files, and (H,W,3) of bytes of what Python holds."""
    if not images:
        raise UserError("predict: no picture was given; type an image file")
    if all(isinstance(image, Tensor) for image in images):
        return tensor_of(list(images), "images").float().contiguous()
    found: list[Content] = []
    for image in images:
        if is_live(image):
            pixels = (255 * tensor_of(image, "images")).round().byte().permute(0, 2, 3, 1)
            found += list(pixels.contiguous().cpu().numpy())
        else:
            found += image_files(at_home(image))
    return found


def image_files(path: Path) -> list[Path]:
    """The file, or those below a folder, in order. Raises UserError for a folder without any."""
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*"))
    inside = [file for file in files if is_picture(file)]
    for line in other_files(path, [file for file in files if not file.is_dir()]):
        warnings.warn(f"{path}: {line}", stacklevel=2)
    if not inside:
        raise UserError(f"{path}: no image file lies in it or below it; type another folder, or files")
    return inside


def _of_tensor(model: VisionModel, images: Tensor, top: int, first: int) -> list[Prediction]:
    return [Prediction(str(place), found) for place, found in enumerate(_answers(model, images, top), start=first)]


def _answers(model: VisionModel, images: Tensor, top: int) -> list[tuple[Answer, ...]]:
    with torch.no_grad():
        outputs = model.outputs(images.to(getattr(model, "device", "cpu")))
    check_finite(outputs, f"model {model.name!r} gives outputs")
    target = target_of(model)
    values = said(outputs, target)
    if target == NUMBERS:
        names = [model.spec.class_name(k) for k in range(values.shape[1])]
        return [tuple(Answer(name, k, None, row[k]) for k, name in enumerate(names)) for row in values.tolist()]
    shares, numbers = largest(values, top)
    return [
        tuple(Answer(model.spec.class_name(k), k, share) for k, share in zip(row, found, strict=True))
        for row, found in zip(numbers.tolist(), shares.tolist(), strict=True)
    ]
