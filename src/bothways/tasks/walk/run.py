"""Walk one picture to noise and back along a flow, with nearest pictures and predicted classes at every depth.

dx / dt = v(x, t),   there: t from 1 to 0,   back: from 0 to 1,   depth = 1 - t
nearest at a depth: the pictures i of a data set with the least |pool(x(t)) - pool(x_i(t))|, all walked alike

pool is that of PRG (representation/features.py), so distances are those of PRG features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.data.given import fitted_pictures, pictures_of
from bothways.data.readers.fit import size_of
from bothways.data.sources import load_images
from bothways.data.splits import training_split
from bothways.models.adapter import Adapter
from bothways.models.catalogue import find_classifier
from bothways.models.classifiers import flow_in, target_of
from bothways.models.loader import adapted_classifier, load_flow
from bothways.models.velocity import Flow
from bothways.representation.encode import PART, Walk, image_time, trajectory
from bothways.representation.features import pooled
from bothways.representation.tuning.targets import NUMBERS, largest, said
from bothways.runs import PHOTOS, to_png
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.files import replace_file
from bothways.runs.provenance import flow_facts
from bothways.tasks.walk.config import WalkConfig
from bothways.tasks.walk.result import WAYS, Walked, WalkMeasures
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame

NEAREST = 6
CALLS, CALLED_AT_ONCE = 3, 32  # classes that are named at a depth, the most probable; pictures at a time


@final
@dataclass
class Walking(Work):
    """A run of ``walk``.

    photo (1,3,H,W) and others (N,3,H,W) in [0,1], at the size of the flow; N may be 0. reader: the classifier, if any.
    seen: {direction: pictures (1,3,H,W) so far}. nearest: for each depth, (index in others, distance).
    ends: the picture and what came back, in full precision.
    """

    config: WalkConfig
    flow: Flow
    reader: Adapter | None
    photo: Tensor
    others: Tensor
    how: Walk
    experiment: Experiment
    seen: dict[str, list[Tensor]] = field(default_factory=lambda: {way: [] for way in WAYS})
    nearest: list[list[tuple[int, float]]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    schema = WalkMeasures
    doing = "walking"
    done_word = "walked"

    @property
    def steps(self) -> int:
        return 2 * (self.how.steps + 1)

    @property
    def depths(self) -> list[float]:
        """The depths of one direction, from picture to noise."""
        first, count = 1.0 - image_time(self.flow), self.how.steps
        return [first + (1.0 - first) * k / count for k in range(count + 1)]

    def frames(self) -> Iterator[Frame]:
        """Yield a frame with the picture at every depth, there and back.

        A resumed run starts again and replaces the saved pictures by equal ones.
        """
        folder = self.experiment.folder
        if folder is not None:
            folder.drop_frames_after(0, 0)
        for step, (way, t, x) in enumerate(self._both_ways(), 1):
            exact = self.flow.picture(x).clamp(0, 1).cpu()
            shown = (255 * exact).round() / 255
            self.seen[way].append(shown)
            if step in (1, self.steps):
                self.ends.append(exact)
            frame = Frame(step, t, shown, {"depth": 1.0 - t, "rms": float(x.square().mean().sqrt())})
            if folder is not None:
                record = {"index": step - 1, "way": way, "depth": round(1.0 - t, 4)}
                folder.save_pictures(shown, [{**record, "file": f"images/{step - 1:04d}-{way}.png"}])
                folder.append_frame(frame, WAYS.index(way))
            yield frame

    def _both_ways(self) -> Iterator[tuple[str, float, Tensor]]:
        device = self.flow.mean.device
        with torch.no_grad():
            parts = [self.flow.code(part.to(device)) for part in torch.cat([self.photo, self.others]).split(PART)]
        ways = [trajectory(self.flow, part, 1.0, 0.0, self.how) for part in parts]
        for moments in zip(*ways, strict=True):
            x = moments[0][1][:1]
            self.nearest.append(_nearest(torch.cat([pooled(part).cpu() for _, part in moments])))
            yield "there", moments[0][0], x
        for t, moment in trajectory(self.flow, x, 0.0, 1.0, self.how):
            yield "back", t, moment

    def measures(self) -> dict[str, Any]:
        """{"walk": {"depths", "lost", "nearest", "called_there", "called_back"}}, with an entry per depth."""
        before, after = self.ends
        lost = (before - after).double().square().mean().sqrt()
        found: dict[str, Any] = {"depths": self.depths, "lost": float(lost), "nearest": self._kept_nearest()}
        if self.reader is not None:
            found["called_there"] = _calls(self.reader, torch.cat(self.seen["there"]))
            found["called_back"] = _calls(self.reader, torch.cat(self.seen["back"][::-1]))
        return {"walk": found, "citations": flow_citations(path=self.flow.spec.path)}

    def _kept_nearest(self) -> list[list[dict[str, Any]]]:
        """Files and distances of the nearest pictures, which are saved in the run folder, if any."""
        if (folder := self.experiment.folder) is not None:
            for index in {index for row in self.nearest for index, _ in row}:
                replace_file(folder.path / _file(index), to_png(self.others[index]))
        return [[{"file": _file(index), "distance": distance} for index, distance in row] for row in self.nearest]

    def result(self, measures: dict[str, Any]) -> Walked:
        return Walked.of(torch.cat(self.seen["there"]), torch.cat(self.seen["back"][::-1]), measures)

    def plan(self) -> str:
        beside = f" beside {len(self.others)} others" if len(self.others) else ""
        return f"a picture would be walked in {self.how.steps} steps each way{beside}"

    def summary(self, result: Walked, out: Path | None) -> Iterator[str | Grid]:
        yield f"walked to noise and back, it is off by {result.lost:.2g} (RMS, black to white is 1)"
        if result.called_there is not None and result.called_back is not None:
            rows = [
                (f"{depth:.3g}", *(f"{calls[0][0]} ({calls[0][1]:.0%})" for calls in both))
                for depth, *both in zip(result.depths, result.called_there, result.called_back, strict=True)
            ]
            yield Grid(("depth", "predicted there", "predicted back"), rows)
        if out is not None:
            yield f"{self.steps} pictures in {out}/images"


def _file(index: int) -> str:
    return f"{PHOTOS}/near-{index:04d}.png"


def _nearest(features: Tensor) -> list[tuple[int, float]]:
    """(index, rms difference) of the rows nearest to the first row, nearest first."""
    apart = (features[1:] - features[:1]).square().mean(1).sqrt()
    closeness, numbers = largest(-apart, NEAREST)
    return list(zip(numbers.tolist(), (-closeness).tolist(), strict=True))


@torch.no_grad()
def _calls(reader: Adapter, images: Tensor) -> list[list[tuple[str, float]]]:
    """The most probable classes or labels of each picture (N,3,H,W), with their probabilities."""
    outputs = torch.cat([reader.outputs(part.to(reader.device)).cpu() for part in images.split(CALLED_AT_ONCE)])
    shares, numbers = largest(said(outputs, target_of(reader)), CALLS)
    pairs = zip(numbers.tolist(), shares.tolist(), strict=True)
    return [[(reader.spec.class_name(k), p) for k, p in zip(*row, strict=True)] for row in pairs]


def prepare(config: WalkConfig, where: Where) -> Walking:
    """Prepare a run of ``walk``. Raises UserError for invalid input, before the first step.

    config.photo: what ``pictures_of`` takes; of several the first.
    """
    how = Walk(config.steps, config.solver, gradient="direct")
    reader = adapted_classifier(config.flow, device=config.device) if _is_classifier(config.flow) else None
    flow = load_flow(config.flow, device=config.device) if reader is None else flow_in(reader)
    reader = None if target_of(reader) == NUMBERS else reader  # it names nothing
    size = size_of(flow.spec)
    photo = fitted_pictures(pictures_of(config.photo, "photo", size)[:1].cpu(), size)
    others = photo[:0]
    if config.data is not None:
        split = config.split or training_split(config.data)
        others = load_images(config.data, split=split, size=size, limit=config.limit).floats()
    tables = {"settings": config.model_dump(exclude={"flow"}), "model": flow_facts(flow)}
    device = str(flow.mean.device)
    experiment = Experiment.begin("walk", tables, **where.as_options(), device=device, of=2 * (how.steps + 1))
    if (folder := experiment.folder) is not None:
        (folder.path / PHOTOS).mkdir(exist_ok=True)
        replace_file(folder.path / PHOTOS / "photo-0000.png", to_png(photo[0]))
    return Walking(config, flow, reader, photo, others, how, experiment)


def _is_classifier(flow: Any) -> bool:
    return isinstance(flow, str | Path) and find_classifier(flow) is not None
