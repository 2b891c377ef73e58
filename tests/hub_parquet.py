"""A parquet file of labelled pictures, as the hub keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_hub_parquet(
    path: Path, images: Iterable[bytes | None], labels: Iterable[int | None], names: Sequence[str] | None
) -> None:
    """A struct of bytes and path a picture; the names of the classes, if any, in the schema's metadata."""
    cells = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    table = pa.table({"image": cells, "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
