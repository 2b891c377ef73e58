"""One picture walked to noise and back along a flow, with what lies near it and what it is called on the way.

dx / dt = v(x, t),   there: t from 1 to 0,   back: from 0 to 1,   depth = 1 - t
nearest at a depth: the pictures i of a data set with the least |pool(x(t)) - pool(x_i(t))|, all walked alike

pool is that of PRG (representation/features.py), so near means near in what PRG reads of a picture.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bothways.data.sources import fitted, load_images
from bothways.models.adapter import Adapter
from bothways.models.catalogue import find_classifier
from bothways.models.classifiers import flow_in
from bothways.models.loader import load_classifier, load_flow
from bothways.models.velocity import Flow
from bothways.representation.encode import PART, Walk, image_time, trajectory
from bothways.representation.features import pooled
from bothways.runs import PHOTOS, RunFolder, to_png
from bothways.runs.experiment import ending
from bothways.runs.files import replace_file
from bothways.runs.provenance import flow_tables, peak_memory
from bothways.tasks.generate.scene import Photo, Scene, keep_scene, read_photos
from bothways.tasks.predict.run import predict
from bothways.types import Frame, UserError

STEPS = 20  # each way; PRG's on CIFAR-10
NEAREST = 6
WAYS = ("there", "back")


@dataclass
class Walking:
    """One run: ``run`` walks and yields, ``finish`` writes what was found on the way.

    photo (1,3,H,W) and others (N,3,H,W) in [0,1], of the flow's size; N may be 0. reader: what says what it sees.
    """

    flow: Flow
    reader: Adapter | None
    photo: Tensor
    others: Tensor
    how: Walk
    folder: RunFolder
    seen: dict[str, list[Tensor]] = field(default_factory=lambda: {way: [] for way in WAYS})
    nearest: list[list[tuple[int, float]]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        return 2 * (self.how.steps + 1)

    def depths(self) -> list[float]:
        """Of the pictures of one way, from the picture to noise."""
        first, count = 1.0 - image_time(self.flow), self.how.steps
        return [first + (1.0 - first) * k / count for k in range(count + 1)]

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame at every depth, there and back, with the picture; each is kept as it comes."""
        began = time.perf_counter()
        with ending(self.folder, lambda: {"of": self.steps, "seconds": time.perf_counter() - began}):
            for step, (way, t, x) in enumerate(self._both_ways(), 1):
                shown = (255 * self.flow.picture(x).clamp(0, 1)).round().cpu() / 255
                self.seen[way].append(shown)
                frame = Frame(step, t, shown, {"depth": 1.0 - t, "rms": float(x.square().mean().sqrt())})
                record = {"index": step - 1, "way": way, "depth": round(1.0 - t, 4)}
                self.folder.save_pictures(shown, [{**record, "file": f"images/{step - 1:04d}-{way}.png"}])
                self.folder.append_frame(frame, WAYS.index(way))
                self.seconds = time.perf_counter() - began
                yield frame

    @torch.no_grad()
    def _both_ways(self) -> Generator[tuple[str, float, Tensor], None, None]:
        device = self.flow.mean.device
        parts = [self.flow.code(part.to(device)) for part in torch.cat([self.photo, self.others]).split(PART)]
        ways = [trajectory(self.flow, part, 1.0, 0.0, self.how) for part in parts]
        for moments in zip(*ways, strict=True):
            x = moments[0][1][:1]
            self.nearest.append(_nearest(torch.cat([pooled(part).cpu() for _, part in moments])))
            yield "there", moments[0][0], x
        for t, moment in trajectory(self.flow, x, 0.0, 1.0, self.how):
            yield "back", t, moment

    def finish(self) -> dict[str, Any]:
        """What ``measures.json`` then holds under "walk": one entry a depth, from the picture to noise."""
        lost = (self.seen["there"][0] - self.seen["back"][-1]).square().mean().sqrt()
        found: dict[str, Any] = {"depths": self.depths(), "lost": float(lost), "nearest": self._kept_nearest()}
        if self.reader is not None:
            for way, shown in (("there", self.seen["there"]), ("back", self.seen["back"][::-1])):
                calls = predict(self.reader, torch.cat(shown), top=3)
                found[f"called_{way}"] = [[(a.name, a.probability) for a in call.answers] for call in calls]
        seconds, peak = self.seconds, peak_memory(str(self.flow.mean.device))
        self.folder.write_measures({"walk": found, "cost": {"seconds": seconds, "peak_mb": peak}})
        self.folder.finish("complete", of=self.steps, seconds=seconds, peak_mb=peak)
        return found

    def _kept_nearest(self) -> list[list[dict[str, Any]]]:
        """Their files and distances; the pictures are kept beside the photo."""
        for index in {index for row in self.nearest for index, _ in row}:
            replace_file(self.folder.path / _file(index), to_png(self.others[index]))
        return [[{"file": _file(index), "distance": distance} for index, distance in row] for row in self.nearest]


def _file(index: int) -> str:
    return f"{PHOTOS}/near-{index:04d}.png"


def _nearest(features: Tensor) -> list[tuple[int, float]]:
    """(number, root of the mean squared difference) of those nearest to the first row, the nearest first."""
    apart = (features[1:] - features[:1]).square().mean(1).sqrt()
    distances, numbers = apart.topk(min(NEAREST, len(apart)), largest=False)
    return list(zip(numbers.tolist(), distances.tolist(), strict=True))


def prepare_walk(
    flow: str | Path,
    photo: Photo,
    *,
    out: str | Path,
    steps: int = STEPS,
    solver: str = "euler",
    data: str | Path | None = None,
    limit: int = 100,
    device: str = "cpu",
    overwrite: bool = False,
) -> Walking:
    """Everything of a walk that can be refused, before the first step.

    flow: a flow's address, a run of ``pretrain``, or one of ``finetune``, whose classifier then says what it sees at
    every depth. photo: an image file or (3,H,W) in [0,1]; its middle is taken at the flow's size. steps: each way.
    data: pictures among which the nearest are looked for, ``limit`` of them, evenly spaced. out: the run folder.
    Raises UserError for what cannot be.
    """
    reader = load_classifier(flow, device=device) if find_classifier(flow) is not None else None
    found = load_flow(flow, device=device) if reader is None else flow_in(reader)
    if limit < 1:
        raise UserError(f"limit={limit}: type how many pictures of the data are walked, 1 or more")
    size = (found.spec.height, found.spec.width)
    given = _of_size(read_photos(photo, "photo")[:1], size)
    others = load_images(data, size=size, limit=limit).images.float() / 255 if data else given[:0]
    how = Walk(steps, solver, gradient="direct")
    asked = {"command": "walk", "steps": steps, "solver": solver, "device": device}
    asked |= {"limit": limit} if data else {}
    folder = RunFolder.create(out, flow_tables(found, asked, data), overwrite=overwrite)
    keep_scene(Scene(given), folder.path)
    return Walking(found.requires_grad_(False), reader, given, others, how, folder)


def _of_size(photo: Tensor, size: tuple[int, int]) -> Tensor:
    pixels = (255 * photo[0]).round().byte().permute(1, 2, 0).numpy()
    return torch.from_numpy(np.array(fitted(Image.fromarray(pixels), size))).permute(2, 0, 1)[None].float() / 255
