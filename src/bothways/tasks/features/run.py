"""Extract features of pictures with a flow: a row per picture, a column per kind, depth and layer; fit two probes.

walked: pool(x(1 - depth)), dx/dt = v(x, t) from x(1)     activations: mean over space of h_layer(x, 1 - depth)

features-SPLIT.parquet    see tasks/features/files.py
measures.json             "features": the columns and the probe accuracies (schema: tasks/features/section.py)

Source: Xue et al. 2024, arXiv 2412.01787; Xiang et al. 2023, arXiv 2303.09769.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

import torch

from bothways import budget
from bothways.configs import recorded
from bothways.models.loader import load_flow
from bothways.representation.encode import Walk
from bothways.representation.readings import Readings
from bothways.runs.provenance import flow_facts, versions
from bothways.tasks.features.config import FeaturesConfig
from bothways.tasks.features.extraction import Extraction
from bothways.tasks.features.files import FeatureFile
from bothways.tasks.features.plan import ROWS, Extractor, Split, extractor_of, probes_of, splits_of
from bothways.tasks.measures import DoneRows
from bothways.tasks.memory import check_batch
from bothways.tasks.work import Where

ROW_BYTES = 8  # of a number of a part, twice: read, and put together
AHEAD = 3  # bytes of a pixel of a batch that is read ahead, times its depth of 4, over ROW_BYTES: rounded up
PROBE_BYTES = 24  # of a number of a probed column: as it is read, standardised, and copies of these


def prepare(config: FeaturesConfig, where: Where) -> Extraction:
    """Prepare a run of ``features``. Raises UserError for invalid input, before the first picture.

    Without a run folder the files are written to a temporary folder and then read into memory.
    """
    probes, walk = probes_of(config.probes), Walk(config.steps, config.solver)
    flow = load_flow(config.flow, device=config.device, dtype=config.dtype)
    extractor = extractor_of(
        flow, config.kind, config.depth, layers=config.layers, noised=config.noised, walk=walk, control=bool(probes)
    )
    splits = splits_of(
        flow, config.data, config.splits, (config.limit, config.test_limit), config.batch, config.preprocess
    )
    _check_memory(extractor, splits, config, bool(probes))
    settings = config.model_dump(exclude={"flow", "workers"})
    settings |= {"layers": extractor.readings.layers, "splits": [split.name for split in splits], "probes": probes}
    tables = {"settings": settings, "model": flow_facts(flow)}
    place = mkdtemp(prefix="bothways-") if where.out is None else None
    where = where if place is None else replace(where, out=Path(place) / "run")
    experiment = where.begin("features", tables, device=str(flow.mean.device))
    where.processes.tell_of_idle(sum(split.parts for split in splits), f"a part has {ROWS} pictures")
    folder = experiment.folder
    assert folder is not None
    facts = file_facts(config, extractor.readings, splits[0].classes, tables["model"])
    files = {split.name: FeatureFile(folder.path, split.name, extractor.sizes, facts, config.store) for split in splits}
    saved = folder.load_state(DoneRows)
    rows = saved[1]["rows"] if saved is not None else []
    extraction = Extraction(config, extractor, splits, files, probes, experiment, rows)
    if place is not None:
        extraction.remove = finalize(extraction, rmtree, place, ignore_errors=True)
    return extraction


def file_facts(
    config: FeaturesConfig, readings: Readings, classes: tuple[str, ...], model: dict[str, Any]
) -> dict[str, Any]:
    """The metadata of a feature file, stored as JSON under the key "bothways" of its schema."""
    return {
        "columns": [{"column": column.name, **asdict(column)} for column in readings.columns],
        "walk": {"solver": recorded(config.solver), "steps": [route.stops for route in readings.routes]},
        "noised": config.noised,
        "flow": {key: model[key] for key in ("address", "weights", "path", "size", "mean", "std")},
        "data": recorded(config.data),
        "classes": classes,
        "dtype": config.dtype,
        "versions": versions(),
    }


def _check_memory(extractor: Extractor, splits: Sequence[Split], config: FeaturesConfig, probed: bool) -> None:
    """Raise UserError where a batch does not fit, the rows of a part, or those of a column that is probed."""
    (high, wide), device = (extractor.flow.spec.height, extractor.flow.spec.width), str(extractor.flow.mean.device)
    widths, most = extractor.sizes.values(), max(split.count for split in splits)

    def work(count: int) -> None:
        with torch.no_grad():
            extractor(torch.full((count, 3, high, wide), 128).byte())

    def more(pictures: int) -> float:
        return ROW_BYTES * (
            sum(widths) * min(most, max(pictures, ROWS)) + AHEAD * high * wide * pictures * (1 + config.workers)
        )

    check_batch("batches", work, min(config.batch, most), high * wide, device=device, more=more)
    if probed:
        rows, each = sum(split.count for split in splits), PROBE_BYTES * max(widths)
        budget.check_memory(
            f"probes of {rows:,} rows of {max(widths):,} numbers",
            each * rows,
            lambda free: budget.within("--limit", int(free / each / len(splits)), "type --probe none"),
        )
