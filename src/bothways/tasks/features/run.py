"""Extract features of pictures with a flow: a row per picture, a column per kind, depth and layer; fit two probes.

walked: pool(x(1 - depth)), dx/dt = v(x, t) from x(1)     activations: mean over space of h_layer(x, 1 - depth)

features-SPLIT.parquet    see tasks/features/files.py
measures.json             "features": the columns and the probe accuracies (schema: tasks/features/section.py)

Source: Xue et al. 2024, arXiv 2412.01787; Xiang et al. 2023, arXiv 2303.09769.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

from bothways.configs import recorded
from bothways.models.loader import load_flow
from bothways.representation.encode import Walk
from bothways.representation.readings import Readings
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import flow_facts, versions
from bothways.tasks.features.config import FeaturesConfig
from bothways.tasks.features.extraction import Extraction
from bothways.tasks.features.files import FeatureFile
from bothways.tasks.features.plan import extractor_of, probes_of, splits_of
from bothways.tasks.work import Where


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
    settings = config.model_dump(exclude={"flow", "workers"})
    settings |= {"layers": extractor.readings.layers, "splits": [split.name for split in splits], "probes": probes}
    tables = {"settings": settings, "model": flow_facts(flow)}
    place = mkdtemp(prefix="bothways-") if where.out is None else None
    options = where.as_options() | ({} if place is None else {"out": Path(place) / "run"})
    experiment = Experiment.begin("features", tables, device=str(flow.mean.device), **options)
    folder = experiment.folder
    assert folder is not None
    facts = file_facts(config, extractor.readings, splits[0].classes, tables["model"])
    files = {split.name: FeatureFile(folder.path, split.name, extractor.sizes, facts, config.store) for split in splits}
    saved = folder.load_state()
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
