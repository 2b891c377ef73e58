"""What a drawing gives back."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.tasks.generate.asked import Asked
from bothways.runs.experiment import versions
from bothways.tasks.generate.roles import Roles
from bothways.tasks.generate.config import DrawSettings
from bothways.runs import RunFolder, to_png
from bothways.types import Frame


@dataclass(frozen=True)
class Result:
    """Pictures with their classes, seeds and measures.

    images (N,3,H,W) in [0,1], rounded to 8 bits, so that what is judged is what is saved; labels (N,).
    records: one dict a picture (index, class, seed, own_probability). frames: one a step and batch, without images.
    measures: what the judges said (see ``bothways.judge``). tables: the settings, model and versions of the run.
    alphas: (N,1,H,W) in [0,1], how opaque each pixel is, where the settings ask for it (``alpha``).
    """

    images: Tensor
    labels: Tensor
    records: list[dict[str, Any]]
    frames: list[Frame] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    alphas: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run folder. Raises UserError where one is there already and ``overwrite`` is not set."""
        run = RunFolder.create(folder, self.tables, overwrite=overwrite)
        for frame in self.frames:
            run.append_frame(frame, int(frame.stats.get("batch", 0)))
        run.save_pictures(self.images, self.records, self.alphas)
        run.write_measures(self.measures)
        run.finish("complete", of=len(self), **self.measures.get("cost", {}))
        return run.path

    def grid(self, columns: int | None = None, enlarge_to: int = 96) -> Tensor:
        """One picture of all, (3,H,W): a row a class where each has as many, small ones enlarged by whole pixels."""
        classes = len(set(self.labels.tolist())) or 1
        columns = columns or (len(self) // classes if len(self) % classes == 0 and classes > 1 else 10)
        order = sorted(range(len(self)), key=lambda i: (self.labels[i].item(), self.records[i]["index"]))
        factor = max(1, enlarge_to // self.images.shape[-1])
        big = self.images[order].repeat_interleave(factor, -2).repeat_interleave(factor, -1)
        gap = 4
        padded = torch.nn.functional.pad(big, (0, gap, 0, gap), value=1.0)
        missing = -len(padded) % columns
        padded = torch.cat([padded, padded.new_ones(missing, *padded.shape[1:])])
        rows = padded.view(-1, columns, *padded.shape[1:])
        return rows.permute(2, 0, 3, 1, 4).reshape(3, rows.shape[0] * rows.shape[3], columns * rows.shape[4])

    def _repr_png_(self) -> bytes:
        return to_png(self.grid())


def tables(
    roles: Roles, settings: DrawSettings, asked: Asked, files: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What recipe.toml holds. files: the data, photos and masks, by what they are for; None where there are none."""
    model, spec = roles.main, roles.main.spec
    facts = {
        "address": model.name,
        "size": [spec.height, spec.width],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channel_order": spec.channel_order,
        "classes": spec.count,
        "source": spec.source,
        "licence": spec.licence,
    }
    drawn: dict[str, Any] = {"classes": [spec.class_name(i) for i in dict.fromkeys(asked.labels) if i >= 0]}
    if asked.prompts:
        drawn["prompts"] = [f"{text}:{weight:g}" for text, weight in asked.prompts]
    if asked.layer is not None:
        drawn |= {"layer": asked.layer, "channels": list(dict.fromkeys(asked.channels))}
    if set(roles.names) != {model.name}:
        drawn |= {"score": [m.name for m in roles.score], "condition": [m.name for m in roles.condition]}
    for what, source in (files or {}).items():
        if source is not None:
            drawn[what] = list(source) if what == "box" else _said(source)
    return {"settings": settings.model_dump(), "drawn": drawn, "model": facts, "versions": versions()}


def _said(source: str | Path | Tensor) -> str:
    return f"a tensor {tuple(source.shape)}" if isinstance(source, Tensor) else str(source)


def peak_memory(device: str) -> float:
    """Megabytes: of the GPU where one is used, else the largest this process has been."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
