"""Pictures in parquet files: one file, a file a split, or a split in shards as the hub lays them out.

    FOLDER/SPLIT.parquet      FOLDER/data/SPLIT-00000-of-00002.parquet      FOLDER/CONFIG/SPLIT-00000-of-00001.parquet

The columns are the first Image and the first ClassLabel among the features that the hub writes into the schema; a file
without them has a column ``image`` of encoded bytes, and a column ``label`` where it has labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from textwrap import shorten
from typing import Any

from bothways.data.readers.entries import Entries, Found, spaced
from bothways.types import UserError

SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<count>\d+)")
ROWS = 256  # of a file that are held at a time


@dataclass(frozen=True)
class Columns:
    """Where the pictures and the labels of a file are."""

    image: str
    label: str | None
    classes: tuple[str, ...]


def find_shards(folder: Path, split: str) -> list[Path] | None:
    """The parquet files of a split below a folder, in order; None where it holds no parquet file.

    Raises UserError where the split or one of its shards is missing, or several sets of files lie side by side.
    """
    places = [p for p in (folder, folder / "data") if any(p.glob("*.parquet"))]
    if not places:
        places = sorted({p.parent for p in folder.glob("*/*.parquet")})
    if not places:
        return None
    if len(places) > 1:
        raise UserError(
            f"data {str(folder)!r} holds several sets of parquet files; type one of {', '.join(map(str, places))}"
        )
    splits: dict[str, list[Path]] = {}
    for path in sorted(places[0].glob("*.parquet")):
        shard = SHARD.fullmatch(path.stem)
        splits.setdefault(shard["split"] if shard else path.stem, []).append(path)
    if split not in splits:
        raise UserError(f"data {str(folder)!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
    _check_all_there(splits[split])
    return splits[split]


def _check_all_there(shards: Sequence[Path]) -> None:
    numbered = [shard for path in shards if (shard := SHARD.fullmatch(path.stem))]
    wanted = {int(shard["count"]) for shard in numbered}
    if numbered and (len(wanted) > 1 or len(numbered) < len(shards) or len(shards) != max(wanted)):
        raise UserError(
            f"data {str(shards[0])!r}: {len(shards)} files are there of {max(wanted)}; give the folder with all shards"
        )


def from_parquet(files: Sequence[Path], limit: int | None) -> Found:
    """The pictures of some files with the same columns, read a few rows at a time."""
    opened = [_opened(path) for path in files]
    columns = [_columns(path, file.schema_arrow) for path, file in zip(files, opened, strict=True)]
    if len({(found.image, found.label) for found in columns}) > 1:
        raise UserError(f"data {str(files[0])!r} and its shards differ in their columns; give files of one data set")
    counts = [file.metadata.num_rows for file in opened]
    chosen = spaced(sum(counts), limit)

    def entries() -> Entries:
        begins = [0, *accumulate(counts)]
        for path, begin, end in zip(files, begins, begins[1:], strict=False):
            yield from _rows(path, columns[0], [place - begin for place in chosen if begin <= place < end])

    return Found(columns[0].classes, len(chosen), entries())


def _opened(path: Path) -> Any:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"data {str(path)!r} is not a parquet file that can be read: {_said(error)}") from error


def _columns(path: Path, schema: Any) -> Columns:
    import pyarrow

    facts = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = facts.get("info", {}).get("features", {})
    kinds = {name: f.get("_type") for name, f in features.items() if isinstance(f, dict) and name in schema.names}
    if "Image" in kinds.values():
        image = next(name for name, kind in kinds.items() if kind == "Image")
        label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    elif "image" in schema.names:
        image, label = "image", "label" if "label" in schema.names else None
    else:
        raise UserError(f"data {str(path)!r} has no column 'image'; it has {', '.join(schema.names)}")
    kind = schema.field(label).type if label else pyarrow.null()
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind)):
        raise UserError(f"data {str(path)!r} has labels that are not whole numbers; number the classes from 0")
    return Columns(image, label, tuple(features.get(label, {}).get("names", [])))


def _rows(path: Path, columns: Columns, wanted: Sequence[int]) -> Entries:
    """The rows of one file, in order."""
    names = [columns.image] + ([columns.label] if columns.label else [])
    rest, begin = list(reversed(wanted)), 0
    try:
        for batch in _opened(path).iter_batches(ROWS, columns=names):
            while rest and rest[-1] < begin + len(batch):
                row = rest.pop()
                image = batch.column(columns.image)[row - begin].as_py()
                label = batch.column(columns.label)[row - begin].as_py() if columns.label else None
                # the hub wraps the bytes, others do not
                data = image.get("bytes") if isinstance(image, dict) else image
                yield f"{path.name} row {row}", data if isinstance(data, bytes) else b"", -1 if label is None else label
            begin += len(batch)
            if not rest:
                return
    except (OSError, ValueError) as error:
        raise UserError(f"data {str(path)!r} is torn after row {begin}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return shorten(str(error), 200, placeholder=" ...")
