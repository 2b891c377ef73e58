"""A run of ``features``: write the feature files part by part, then fit the probes column by column.

Batches are read and decoded ahead by worker processes; one part is held in memory. A resumed run makes the parts that
are missing, and on a CPU its files are bit for bit those of an uninterrupted run. Several processes share the parts;
the first joins them and fits the probes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways import budget
from bothways.data.loader import prefetch
from bothways.data.rows.reader import Decoded, Reader
from bothways.judging.accuracy import share
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.probes import linear, nearest
from bothways.progress import stage
from bothways.representation.readings import Column
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.tasks.features.config import FeaturesConfig
from bothways.tasks.features.files import NUMBERS, FeatureFile, Made, column_of, facts_in, facts_of_pictures
from bothways.tasks.features.plan import Extractor, Split
from bothways.tasks.features.result import FeatureFacts, FeatureMeasures, FeatureTables
from bothways.tasks.work import Grid, Work
from bothways.types import Frame, RunError

SKIPPED_NAMED = 5


@final
@dataclass
class Extraction(Work):
    """A run of ``features``. A step is a batch of pictures, or a probe of a column.

    files: {split: its feature file}. rows: measures["features"]["probes"] of the fitted probes. remove: removes the
    temporary files of a run without a folder; None with a run folder.
    """

    config: FeaturesConfig
    extractor: Extractor
    splits: list[Split]
    files: dict[str, FeatureFile]
    probes: tuple[str, ...]
    experiment: Experiment
    rows: list[dict[str, Any]] = field(default_factory=list)
    remove: Callable[[], object] | None = None
    at_once: budget.AtOnce = field(default_factory=lambda: budget.AtOnce("pictures"))
    schema = FeatureMeasures
    doing = "reading"
    done_word = "read"

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.extractor.readings.columns

    @property
    def steps(self) -> int:
        """The number of batches, plus the probes of each column."""
        return sum(split.steps for split in self.splits) + self._probe_steps

    @property
    def _probe_steps(self) -> int:
        return len(self.columns) * len(self.probes) if len(self.splits) > 1 else 0

    @property
    def done(self) -> int:
        """The number of finished steps."""
        left = sum(len(split.steps_of(part)) for split, part in self._left())
        return sum(split.steps for split in self.splits) - left + len(self.rows)

    @property
    def own_steps(self) -> int:
        processes = self.experiment.processes
        batches = sum(len(split.steps_of(part)) for split, part in processes.own(self._left()))
        return batches + (self._probe_steps - len(self.rows) if processes.first else 0)

    def _left(self) -> list[tuple[Split, int]]:
        """The missing parts, as (split, number)."""
        return [(split, part) for split in self.splits for part in self.files[split.name].missing(split.parts)]

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every batch and probe of this process; whole parts and probes are saved."""
        total, step, processes = self.steps, self.done, self.experiment.processes
        own = processes.divided(self._left())
        for split in self.splits:
            with closing(self._extract(split, [part for of, part in own if of is split])) as batches:
                for stats in batches:
                    step += 1
                    yield Frame(step, step / total, None, stats)
            if processes.count == 1:
                self._join(split)
        if processes.count > 1:
            with stage("waiting for the other processes"):
                processes.wait()
            for split in self.splits if processes.first else ():
                self._join(split)
        for stats in self._ask() if processes.first and not self.unprobed else ():
            step += 1
            yield Frame(step, step / total, None, stats)

    def _join(self, split: Split) -> None:
        """Join the parts of a split, or remove those that were left of a joined file."""
        file = self.files[split.name]
        if file.done:
            file.clear()
        else:
            file.join(split.parts)

    def _extract(self, split: Split, parts: list[int]) -> Generator[dict[str, float], None, None]:
        """Write some parts of a split, with a yield after every batch."""
        steps = [step for part in parts for step in split.steps_of(part)]
        if not steps:
            return
        made: list[Made] = []
        read = partial(_read, split.reader, steps, steps[0])
        with closing(prefetch(read, steps[0], steps[0] + len(steps), self.config.workers)) as batches:
            for step, decoded in zip(steps, batches, strict=True):
                began = time.perf_counter()
                found = _joined(self.at_once.over(decoded.images, self.extractor))
                _check_finite(self.extractor.flow.name, found, NUMBERS[self.config.store])
                made.append((decoded._replace(images=decoded.images[:0]), found))
                if (step + 1) % split.steps_a_part == 0 or step + 1 == split.steps:
                    self.files[split.name].write_part(step // split.steps_a_part, made)
                    made = []
                yield {"pictures/s": len(decoded.places) / (time.perf_counter() - began)}

    # ---- the probes ------------------------------------------------------------------------------------------------

    @property
    def unprobed(self) -> str:
        """The reason why no probe is fitted; "" if probes are fitted. Needs finished files."""
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
        """Fit each probe of each column on the first split and evaluate it once on the last."""
        files = [self.files[split.name] for split in (self.splits[0], self.splits[-1])]
        labels = [self._labels(file.split) for file in files]
        known = [found >= 0 for found in labels]
        (y, wanted), asked = (found[keep] for found, keep in zip(labels, known, strict=True)), self.probes
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
                    answers = nearest(train, y, test, self.config.neighbours)
                    told = {"neighbours": min(self.config.neighbours, len(y))}
                hits = share(int((answers == wanted).sum()), len(wanted))
                row = {"probe": probe, "column": column.name, **asdict(column), **hits, "n": len(wanted), **told}
                self.rows.append(row)
                assert self.experiment.folder is not None
                self.experiment.folder.save_state({}, {"rows": self.rows})
                yield {f"{probe} {column.name}": hits["value"]}

    def measures(self) -> dict[str, Any]:
        """{"features": ...}; schema in tasks/features/section.py."""
        readings, told = self.extractor.readings, {name: facts_in(file.path) for name, file in self.files.items()}
        pictures = {name: len(self._labels(name)) for name in self.files}
        facts: dict[str, Any] = {
            "flow": self.extractor.flow.name,
            "data": {"address": str(self.splits[0].reader.address), "pictures": pictures},
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
        return {"features": facts, "citations": flow_citations(*used, path=self.extractor.flow.spec.path)}

    def result(self, measures: dict[str, Any]) -> FeatureTables:
        files = {split: file.path for split, file in self.files.items()}
        pictures = {split: facts_of_pictures(file)[1:] for split, file in files.items()}
        made = FeatureTables(measures, files, {}, pictures)
        if self.remove is None:
            return made
        arrays = {split: {column: made.array(column, split) for column in made.columns} for split in pictures}
        self.remove()
        return FeatureTables(measures, {}, arrays, pictures)

    def plan(self) -> str:
        pictures = sum(split.count for split in self.splits)
        return f"{pictures:,} pictures would be read into {len(self.columns)} columns"

    def summary(self, result: FeatureTables, out: Path | None) -> Iterator[str | Grid]:
        facts = result.facts
        fitted = int((self._labels(self.splits[0].name) >= 0).sum()) if facts.probes else 0
        yield _grid(facts, fitted) if facts.probes else facts.unprobed
        for split, skipped in facts.skipped.items():
            yield from (f"skipped {name}: {why}" for name, why in list(skipped.items())[:SKIPPED_NAMED])
            if skipped:
                yield f"{len(skipped)} pictures of {split} skipped"
        for split, file in result.files.items():
            yield f"{facts.data['pictures'][split]:,} pictures in {file}, {file.stat().st_size / 1e6:,.1f} MB"

    def _chance(self) -> dict[str, Any]:
        """The accuracy of always predicting the most frequent training class."""
        y, wanted = (self._labels(split.name) for split in (self.splits[0], self.splits[-1]))
        commonest, wanted = y[y >= 0].mode().values, wanted[wanted >= 0]
        hits = int((wanted == commonest).sum())
        low, high = wilson_interval(hits, len(wanted))
        return {"value": hits / len(wanted), "low": low, "high": high, "n": len(wanted)}


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """The columns of several parts of a batch."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _read(reader: Reader, steps: list[int], first: int, step: int) -> Decoded:
    """The batch at a place of the list ``steps``, counted from ``first``."""
    return reader(steps[step - first])


def _check_finite(flow: str, found: Mapping[str, Tensor], kept: torch.dtype) -> None:
    """Raise RunError for features that are not finite, or not in the precision in which they are kept."""
    for name, values in found.items():
        if not bool(torch.isfinite(values).all()):
            raise RunError(f"flow {flow!r} gives features {name} that are not finite; type --dtype float32")
        if not bool(torch.isfinite(values.to(kept)).all()):
            most = float(values.abs().max())
            raise RunError(f"features {name} go up to {most:.3g}, beyond half precision; type --store float32")


def _grid(facts: FeatureFacts, fitted: int) -> Grid:
    """A table with a row per column and the accuracy of each probe; chance last. fitted: pictures with a label."""
    probes = list(dict.fromkeys(row["probe"] for row in facts.probes))
    by = {(row["column"], row["probe"]): row for row in facts.probes}
    columns = dict.fromkeys(row["column"] for row in facts.probes)
    rows = [(column, *(_share(by.get((column, probe))) for probe in probes)) for column in columns]
    rows.append(("chance", *([_share(facts.chance)] * len(probes))))
    title = f"fitted on {fitted:,} pictures, tested on {facts.probes[0]['n']:,}"
    return Grid(("features", *(f"{probe} (95 %)" for probe in probes)), rows, title)


def _share(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{row['value']:.1%} ({row['low']:.1%}-{row['high']:.1%})"
