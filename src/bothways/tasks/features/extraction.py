"""A run of ``features``: the files made part by part, then the probes asked column by column.

Batches are read and decoded ahead by another process; what is held is one part. A run that was killed goes on with
the part after the last whole one, and on a CPU its files are then bit for bit those of a run that was not.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from bothways.data.loader import ahead
from bothways.judging.accuracy import share
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.probes import linear, votes
from bothways.representation.readings import Column
from bothways.runs import RunFolder
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import ending
from bothways.runs.provenance import peak_memory
from bothways.tasks.features.files import FeatureFile, Made, column_of, facts_in, facts_of_pictures
from bothways.tasks.features.plan import Extractor, Split
from bothways.types import Frame, RunError


@dataclass
class Extraction:
    """``run`` makes what is missing of the files, then asks the probes; ``finish`` writes measures["features"]."""

    extractor: Extractor
    splits: list[Split]
    files: dict[str, FeatureFile]
    folder: RunFolder
    probes: tuple[str, ...]
    neighbours: int
    workers: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.extractor.readings.columns

    @property
    def steps(self) -> int:
        """Of the run: its batches, and a probe of each column."""
        asked = len(self.columns) * len(self.probes) if len(self.splits) > 1 else 0
        return sum(split.steps for split in self.splits) + asked

    @property
    def done(self) -> int:
        """How many of them are made."""
        return sum(self._first(split) for split in self.splits) + len(self.rows)

    def _first(self, split: Split) -> int:
        file = self.files[split.name]
        return split.steps if file.done else min(split.steps, len(file.parts) * split.steps_a_part)

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every batch and every probe. However it ends, whole parts and probes are kept."""
        began, before = time.perf_counter(), self.seconds
        total, step = self.steps, self.done

        def spent() -> float:
            return before + time.perf_counter() - began

        with ending(self.folder, lambda: {"seconds": spent()}):
            for part in (self._extract(split) for split in self.splits):
                with closing(part) as batches:
                    for stats in batches:
                        step += 1
                        yield Frame(step, step / total, None, stats)
            for stats in self._ask() if not self.unprobed else ():
                step += 1
                yield Frame(step, step / total, None, stats)
            self.seconds = spent()

    def _extract(self, split: Split) -> Generator[dict[str, float], None, None]:
        file, first = self.files[split.name], self._first(split)
        if file.done:
            file.clear()
            return
        made: list[Made] = []
        with closing(ahead(split.reader, first, split.steps, self.workers)) as batches:
            for step, decoded in enumerate(batches, start=first + 1):
                began = time.perf_counter()
                found = self.extractor(decoded.images)
                _check_finite(self.extractor.flow.name, found)
                made.append((decoded._replace(images=decoded.images[:0]), found))
                if step % split.steps_a_part == 0 or step == split.steps:
                    file.write_part((step - 1) // split.steps_a_part, made)
                    made = []
                yield {"pictures/s": len(decoded.places) / (time.perf_counter() - began)}
        file.join()

    # ---- the probes ------------------------------------------------------------------------------------------------

    @property
    def unprobed(self) -> str:
        """Why no probe is asked, in a line, once the files are there; "" where they are."""
        if not self.probes:
            return "no probe was asked for"
        if len(self.splits) < 2:
            return "features only: a probe is fitted on one split and asked about another, and there is one"
        labels = [self._labels(split.name) for split in (self.splits[0], self.splits[-1])]
        if any(bool((found < 0).all()) for found in labels):
            return "features only: the pictures have no labels"
        return "" if len(labels[0][labels[0] >= 0].unique()) > 1 else "features only: all training labels are alike"

    def _labels(self, split: str) -> Tensor:
        return facts_of_pictures(self.files[split].path)[2]

    def _ask(self) -> Generator[dict[str, float], None, None]:
        """Each probe of each column, fitted on the first split and asked once about the last."""
        files = [self.files[split.name] for split in (self.splits[0], self.splits[-1])]
        labels = [self._labels(file.split) for file in files]
        known = [found >= 0 for found in labels]
        (y, wanted), asked = (found[keep] for found, keep in zip(labels, known, strict=True)), self.probes
        classes = int(max(y.max(), wanted.max())) + 1
        for column in self.columns:
            left = [p for p in asked if (p, column.name) not in {(r["probe"], r["column"]) for r in self.rows}]
            if not left:
                continue
            train, test = (column_of(file.path, column.name)[keep] for file, keep in zip(files, known, strict=True))
            for probe in left:
                if probe == "linear":
                    answers, l2 = linear(train, y, test)
                    told: dict[str, Any] = {"l2": l2}
                else:
                    answers = votes(train, y, test, classes, self.neighbours).argmax(1)
                    told = {"neighbours": min(self.neighbours, len(y))}
                hits = share(int((answers == wanted).sum()), len(wanted))
                row = {"probe": probe, "column": column.name, **asdict(column), **hits, "n": len(wanted), **told}
                self.rows.append(row)
                self.folder.save_state({}, {"rows": self.rows})
                yield {f"{probe} {column.name}": hits["value"]}

    def finish(self) -> dict[str, Any]:
        """measures["features"] (its schema: tasks/features/section.py), kept in the run folder."""
        readings, told = self.extractor.readings, {name: facts_in(file.path) for name, file in self.files.items()}
        pictures = {name: len(self._labels(name)) for name in self.files}
        facts: dict[str, Any] = {
            "flow": self.extractor.flow.name,
            "data": {"address": self.splits[0].reader.address, "pictures": pictures},
            "columns": [{"column": c.name, **asdict(c), "size": self.extractor.sizes[c.name]} for c in self.columns],
            "calls": readings.calls,
            "files": {name: file.path.name for name, file in self.files.items()},
            "probes": self.rows,
            "unprobed": self.unprobed,
            "skipped": {name: facts["skipped"] for name, facts in told.items()},
        }
        if not facts["unprobed"]:
            facts["chance"] = self._chance()
        used = [key for key, wanted in {"activations": readings.depths, "knn": "knn" in self.probes}.items() if wanted]
        cited = flow_citations(*used, path=self.extractor.flow.spec.path)
        cost = {"seconds": self.seconds, "peak_mb": peak_memory(str(self.extractor.flow.mean.device))}
        self.folder.write_measures({"features": facts, "cost": cost, "citations": cited})
        self.folder.finish("complete", "", **cost)
        return facts

    def _chance(self) -> dict[str, Any]:
        """The share of the last split that is of the commonest class of the first."""
        y, wanted = (self._labels(split.name) for split in (self.splits[0], self.splits[-1]))
        commonest, wanted = y[y >= 0].mode().values, wanted[wanted >= 0]
        hits = int((wanted == commonest).sum())
        low, high = wilson_interval(hits, len(wanted))
        return {"value": hits / len(wanted), "low": low, "high": high, "n": len(wanted)}


def _check_finite(flow: str, found: Mapping[str, Tensor]) -> None:
    for name, values in found.items():
        if not bool(torch.isfinite(values).all()):
            raise RunError(f"flow {flow!r} gives features {name} that are not finite; type --dtype float32")
