"""What a flow makes of pictures, as a table on disk, and how well two probes tell classes apart by it.

features-SPLIT.parquet    see tasks/features/files.py
measures.json             "features": the columns, and what the probes reached (its schema: tasks/features/section.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from bothways.models.loader import load_flow
from bothways.numerics.probes import NEIGHBOURS
from bothways.representation.encode import Walk
from bothways.runs import RunFolder
from bothways.runs.provenance import flow_tables
from bothways.tasks.features.extraction import Extraction
from bothways.tasks.features.files import OWN, FeatureFile, column_of, facts_of_pictures
from bothways.tasks.features.plan import (
    PROBES,
    check_numbers,
    extractor_of,
    probes_asked,
    splits_of,
)
from bothways.types import Frame, UserError

DEPTHS = (0.1, 0.5, 1.0)


@dataclass(frozen=True)
class FeatureTables:
    """What ``features`` made.

    measures: measures["features"]. files: {split: its parquet file}, where a run
    folder was given; arrays: {split: {column: (N,D) float32}}, where none was. pictures: {split: (names, labels (N,))},
    a label -1 where it is unknown.
    """

    measures: dict[str, Any]
    files: Mapping[str, Path]
    arrays: Mapping[str, Mapping[str, Tensor]]
    pictures: Mapping[str, tuple[list[str], Tensor]]

    @property
    def columns(self) -> list[str]:
        return [column["column"] for column in self.measures["columns"]]

    def array(self, column: str, split: str) -> Tensor:
        """(N,D) float32 of a column of a split, in the order of its pictures. Raises UserError for another name."""
        for given, known in ((split, list(self.pictures)), (column, self.columns)):
            if given not in known:
                raise UserError(f"the features have no {given!r}; type one of {', '.join(known)}")
        return column_of(self.files[split], column) if self.files else self.arrays[split][column]


def features(
    flow: Any,
    data: str | Path,
    depth: float | Sequence[float] = DEPTHS,
    kind: str | Sequence[str] = "walked",
    *,
    out: str | Path | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    **options: Any,
) -> FeatureTables:
    """What a flow makes of pictures, a row a picture and a column for each kind, depth and layer.

        walked: pool(x(1 - depth)), dx/dt = v(x, t) from x(1)     activations: mean over space of h_layer(x, 1 - depth)

    flow: a run of ``pretrain`` or ``finetune``, an address, or what ``load_flow`` gave. data: as for ``load_images``.
    depth: 0 the picture, 1 noise; one or several. kind: "walked", "activations", "pixels", or several.
    options: layers (of activations; the middle of a U-Net of ours), noised (activations of pictures on their path, all
    with one noise), steps (5, to the deepest depth at least, see representation/readings.py), solver ("euler"),
    splits (train and test where there are test pictures), limit, test_limit (pictures of each split, of the last),
    probes ("linear" and "knn", fitted on the first split and asked about the last, beside the pixels; or "none"),
    neighbours (20), batch (128), store ("float32", "float16"), device, dtype, workers (1, processes that decode ahead),
    overwrite, resume. out: the run folder; None keeps all of it in memory.
    Raises UserError for what cannot be asked. A picture that cannot be read is left out and named in "skipped".
    Source: Xue et al. 2024, arXiv 2412.01787; Xiang et al. 2023, arXiv 2303.09769.
    """
    if out is None:
        with TemporaryDirectory() as place:
            made = _whole(prepare_features(flow, data, depth, kind, out=Path(place) / "run", **options), on_frame)
            arrays = {split: {column: made.array(column, split) for column in made.columns} for split in made.pictures}
        return FeatureTables(made.measures, {}, arrays, made.pictures)
    return _whole(prepare_features(flow, data, depth, kind, out=out, **options), on_frame)


def _whole(extraction: Extraction, on_frame: Callable[[Frame], None] | None) -> FeatureTables:
    with closing(extraction.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    measures = extraction.finish()
    files = {split: file.path for split, file in extraction.files.items()}
    return FeatureTables(measures, files, {}, {split: facts_of_pictures(file)[1:] for split, file in files.items()})


def prepare_features(
    flow: Any,
    data: str | Path,
    depth: float | Sequence[float] = DEPTHS,
    kind: str | Sequence[str] = "walked",
    *,
    layers: Sequence[str] = (),
    noised: bool = False,
    steps: int = 5,
    solver: str = "euler",
    splits: str | Sequence[str] = (),
    limit: int | None = None,
    test_limit: int | None = None,
    probes: str | Sequence[str] = PROBES,
    neighbours: int = NEIGHBOURS,
    batch: int = 128,
    store: str = "float32",
    device: str = "cpu",
    dtype: str = "float32",
    workers: int = 1,
    out: str | Path,
    overwrite: bool = False,
    resume: bool = False,
) -> Extraction:
    """Everything of ``features`` that can be refused before the first picture. For the options see there."""
    check_numbers(batch, (limit, test_limit), neighbours, store)
    depths = (float(depth),) if isinstance(depth, (int, float)) else tuple(float(each) for each in depth)
    kinds, named, wanted = ((given,) if isinstance(given, str) else tuple(given) for given in (kind, splits, probes))
    asked_probes, walk = probes_asked(wanted), Walk(steps, solver)
    found = load_flow(flow, device=device, dtype=dtype)
    extractor = extractor_of(found, kinds, depths, layers=layers, noised=noised, walk=walk, control=bool(asked_probes))
    parts = splits_of(found, data, named, (limit, test_limit), batch)
    readings = extractor.readings
    asked = {"command": "features", "kind": kinds, "depth": depths, "layers": readings.layers, "noised": noised}
    asked |= {"steps": steps, "solver": solver, "splits": [split.name for split in parts], "limit": limit}
    asked |= {"test_limit": test_limit, "probes": asked_probes, "neighbours": neighbours, "batch": batch}
    tables = flow_tables(found, {**asked, "store": store, "dtype": dtype}, data)
    folder = RunFolder.create(out, tables, OWN, overwrite=overwrite, resume=resume)
    facts = {
        "columns": [{"column": column.name, **asdict(column)} for column in readings.columns],
        "walk": {"solver": solver, "steps": [asdict(route)["stops"] for route in readings.routes]},
        "noised": noised,
        "flow": {key: tables["model"][key] for key in ("address", "weights", "path", "size", "mean", "std")},
        "data": str(data),
        "classes": parts[0].classes,
        "dtype": dtype,
        "versions": tables["versions"],
    }
    files = {split.name: FeatureFile(folder.path, split.name, extractor.sizes, facts, store) for split in parts}
    extraction = Extraction(extractor, parts, files, folder, asked_probes, neighbours, workers)
    saved = folder.load_state()
    extraction.rows = saved[1]["rows"] if saved is not None else []
    extraction.seconds = float(folder.status["seconds"])
    return extraction
