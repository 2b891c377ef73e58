"""Encode pictures by the autoencoder of a flow: pictures -> RUN/SPLIT.parquet, a row per picture.

    latent    (C h w numbers) of the flow's units, beside place, name and label (data/rows/latents.py)

Written part by part as the files of features are, so that a kill loses at most the last part.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.configs import recorded
from bothways.data.loader import prefetch
from bothways.data.rows.latents import COLUMN, FACTS
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.modules import check_finite
from bothways.runs.citations import cited
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import flow_facts, versions
from bothways.tasks.features.files import FeatureFile, Made, facts_in
from bothways.tasks.features.plan import Split, splits_of
from bothways.tasks.latents.config import LatentsConfig
from bothways.tasks.latents.facts import latent_facts
from bothways.tasks.latents.result import EncodedLatents, LatentsMeasures
from bothways.tasks.memory import check_batch
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, UserError

LOOKED_AT = 16  # pictures whose latents are decoded again


@final
@dataclass
class LatentsWork(Work):
    """A run of ``latents``. A step is a batch of pictures. files: {split: its file}."""

    config: LatentsConfig
    flow: Flow
    splits: list[Split]
    files: dict[str, FeatureFile]
    experiment: Experiment
    schema = LatentsMeasures
    doing = "encoding"
    done_word = "encoded"

    @property
    def steps(self) -> int:
        return sum(split.steps for split in self.splits)

    @property
    def done(self) -> int:
        return sum(self._first(split) for split in self.splits)

    def _first(self, split: Split) -> int:
        missing = self.files[split.name].missing(split.parts)
        return missing[0] * split.steps_a_part if missing else split.steps

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every batch; whole parts are saved."""
        step = self.done
        for split in self.splits:
            with closing(self._encode(split)) as batches:
                for pictures in batches:
                    step += 1
                    yield Frame(step, step / self.steps, None, {"pictures": float(pictures)})

    @torch.no_grad()
    def _code(self, images: Tensor) -> Tensor:
        """Latents (B,C,h,w) on the CPU of pictures (B,3,H,W) uint8."""
        found = self.flow.code(images.to(self.flow.mean.device).float() / 255)
        check_finite(found, f"the autoencoder of flow {self.flow.name!r} gives latents")
        return found.cpu()

    def _encode(self, split: Split) -> Generator[int, None, None]:
        file, first = self.files[split.name], self._first(split)
        if file.done:
            file.clear()
            return
        made: list[Made] = []
        width = prod(self.flow.shape)
        with closing(prefetch(split.reader, first, split.steps, self.config.workers)) as batches:
            for step, decoded in enumerate(batches, start=first + 1):
                pictures = len(decoded.places)
                found = self._code(decoded.images).flatten(1) if pictures else torch.empty(0, width)
                made.append((decoded._replace(images=decoded.images[:0]), {COLUMN: found}))
                if step % split.steps_a_part == 0 or step == split.steps:
                    file.write_part((step - 1) // split.steps_a_part, made)
                    made = []
                yield pictures
        file.join(split.parts)

    def measures(self) -> dict[str, Any]:
        """{"latents": ...}; schema in tasks/latents/result.py."""
        few = self.splits[0].reader(0).images[:LOOKED_AT]
        code = self._code(few)
        with torch.no_grad():
            back = self.flow.picture(code.to(self.flow.mean.device)).clamp(0, 1).cpu()
        known = latent_facts(self.flow)
        assert known is not None
        told = {split: facts_in(file.path) for split, file in self.files.items()}
        facts = {
            "flow": self.flow.name,
            "autoencoder": known.autoencoder,
            "shape": list(known.shape),
            "pictures": {split: _rows(file.path) for split, file in self.files.items()},
            "files": {split: file.path.name for split, file in self.files.items()},
            "n": len(few),
            "rms": float(code.square().mean().sqrt()),
            "back": float((back - few.float() / 255).square().mean().sqrt()),
            "skipped": {split: facts["skipped"] for split, facts in told.items()},
        }
        return {"latents": facts, "citations": cited("latents")}

    def result(self, measures: dict[str, Any]) -> EncodedLatents:
        assert self.experiment.folder is not None
        files = {split: file.path for split, file in self.files.items()}
        return EncodedLatents(measures, files, self.experiment.folder.path)

    def plan(self) -> str:
        pictures = sum(split.count for split in self.splits)
        return f"{pictures:,} pictures would be encoded to latents of {' x '.join(map(str, self.flow.shape))}"

    def summary(self, result: EncodedLatents, out: Path | None) -> Iterator[str | Grid]:
        facts = result.facts
        for split, file in result.files.items():
            size = f"{file.stat().st_size / 1e6:,.1f} MB"
            skipped = f", {len(facts.skipped[split])} skipped" if facts.skipped[split] else ""
            yield f"{facts.pictures[split]:,} latents in {file}, {size}{skipped}"
        yield f"decoded again, {facts.n} pictures are off by {facts.back:.3f} (RMS, black to white is 1)"
        yield f"bothways finetune {self.flow.name} --data {result.folder}"

    def page(self, out: Path | None) -> None:
        """None: the task writes data without a report."""


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def prepare(config: LatentsConfig, where: Where) -> LatentsWork:
    """Prepare a run of ``latents``. Raises UserError for invalid input, before the first picture."""
    flow = load_flow(config.flow, device=config.device)
    known = latent_facts(flow)
    if known is None:
        raise UserError(f"flow {flow.name!r} is on pictures and has no autoencoder; give its pictures themselves")
    splits = splits_of(flow, config.data, config.splits, (config.limit, None), config.batch)
    if splits[0].reader.latents is not None:
        raise UserError(f"data {str(config.data)!r} holds latents already; type --data PICTURES")
    _check_memory(flow, min(config.batch, max(split.count for split in splits)))
    settings = config.model_dump(exclude={"flow", "workers"}) | {"splits": [split.name for split in splits]}
    tables = {"settings": settings, "model": flow_facts(flow)}
    experiment = Experiment.begin("latents", tables, **where.as_options(), device=str(flow.mean.device))
    assert experiment.folder is not None
    facts = {
        FACTS: {"shape": list(known.shape), "autoencoder": known.autoencoder},
        "flow": {key: tables["model"][key] for key in ("address", "weights", "size")},
        "data": recorded(config.data),
        "classes": splits[0].classes,
        "versions": versions(),
    }
    sizes, folder = {COLUMN: prod(flow.shape)}, experiment.folder.path
    files = {split.name: FeatureFile(folder, split.name, sizes, facts, config.store, "") for split in splits}
    return LatentsWork(config, flow, splits, files, experiment)


def _check_memory(flow: Flow, batch: int) -> None:
    """Raise UserError where a batch does not fit."""
    high, wide = flow.spec.height, flow.spec.width

    @torch.no_grad()
    def work(count: int) -> None:
        flow.code(torch.full((count, 3, high, wide), 0.5, device=flow.mean.device))

    check_batch("batches", work, batch, high * wide, device=str(flow.mean.device))
