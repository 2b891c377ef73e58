"""Feature files: parts during extraction, so that a kill loses at most the last one, then a parquet file per split.

    RUN/parts/SPLIT-00007.parquet      each a row group, written whole or not at all
    RUN/features-SPLIT.parquet         all parts joined; the parts are then removed

Columns: place (in the split), name, label (null: unknown), and for each reading a list of D numbers, with equal D in
all rows. Their description is JSON under the key "bothways" of the schema metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.data.rows.latents import KEY
from bothways.data.rows.reader import Decoded
from bothways.reading import check_file, is_there, reason, table_of, used
from bothways.runs.files import replacing
from bothways.runs.inventory import PARTIAL
from bothways.types import UserError

NUMBERS = {"float32": torch.float32, "float16": torch.float16}
Made = tuple[Decoded, Mapping[str, Tensor]]  # a batch without its images, and its columns


@dataclass(frozen=True)
class FeatureFile:
    """The feature file of a split. sizes: {column: D}. facts: its metadata. numbers: a key of ``NUMBERS``.

    prefix: of its name, before that of the split.
    """

    folder: Path
    split: str
    sizes: Mapping[str, int]
    facts: Mapping[str, Any]
    numbers: str = "float32"
    prefix: str = "features-"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.prefix}{self.split}.parquet"

    @property
    def done(self) -> bool:
        return is_there(self.path)

    def part(self, number: int) -> Path:
        return self.folder / "parts" / f"{self.split}-{number:05d}.parquet"

    def missing(self, count: int) -> list[int]:
        """The numbers of the missing parts, of ``count``."""
        return [] if self.done else [number for number in range(count) if not is_there(self.part(number))]

    def write_part(self, number: int, batches: Sequence[Made]) -> None:
        """Write a part: some batches as a row group."""
        import pyarrow

        skipped = {name: why for decoded, _ in batches for name, why in decoded.skipped.items()}
        labels = [None if label < 0 else label for decoded, _ in batches for label in decoded.labels]
        columns = [
            pyarrow.array([place for decoded, _ in batches for place in decoded.places], pyarrow.int64()),
            pyarrow.array([name for decoded, _ in batches for name in decoded.names], pyarrow.string()),
            pyarrow.array(labels, pyarrow.int64()),
        ]
        for name, size in self.sizes.items():
            values = torch.cat([found[name] for _, found in batches]).to(NUMBERS[self.numbers])
            flat = pyarrow.array(values.reshape(-1).numpy())
            columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, size))
        self.part(number).parent.mkdir(exist_ok=True)
        schema = self._schema(skipped)
        with replacing(self.part(number)) as file, _writer(file, schema) as writer:
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))

    def join(self, count: int) -> None:
        """Join the ``count`` parts to one file and remove them. Raises UserError if there is no row."""
        import pyarrow.parquet as pq

        parts = [self.part(number) for number in range(count)]
        skipped: dict[str, str] = {}
        for part in parts:
            skipped |= facts_in(part)["skipped"]
        if not any(pq.read_metadata(part).num_rows for part in parts):
            named, why = next(iter(skipped.items()))
            raise UserError(
                f"{self.split}: none of {len(skipped)} pictures can be read ({named}: {why}); check the data"
            )
        with replacing(self.path) as file, _writer(file, self._schema(skipped)) as writer:
            for part in parts:
                table = pq.read_table(part)
                if len(table):
                    writer.write_table(table.replace_schema_metadata(None), row_group_size=len(table))
        self.clear()

    def clear(self) -> None:
        """Remove the parts of a finished file."""
        folder = self.folder / "parts"
        for file in [*folder.glob(f"{self.split}-*.parquet"), *folder.glob(f".*{PARTIAL}")]:
            file.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _schema(self, skipped: Mapping[str, str]) -> Any:
        import pyarrow

        number = {"float32": pyarrow.float32(), "float16": pyarrow.float16()}[self.numbers]
        fields = [("place", pyarrow.int64()), ("name", pyarrow.string()), ("label", pyarrow.int64())]
        fields += [(name, pyarrow.list_(number, size)) for name, size in self.sizes.items()]
        told = json.dumps({**self.facts, "split": self.split, "skipped": skipped}, ensure_ascii=False)
        return pyarrow.schema(fields, metadata={KEY: told.encode()})


def _writer(file: Any, schema: Any) -> Any:
    """A parquet writer without dictionary or compression, which cost time and save nothing for features."""
    import pyarrow.parquet as pq

    told = ["place", "label"]
    return pq.ParquetWriter(file, schema, compression="none", use_dictionary=False, write_statistics=told)


# ---- reading -------------------------------------------------------------------------------------------------------


def facts_in(path: Path) -> dict[str, Any]:
    """The metadata of a feature file. Raises UserError for a file that bothways features did not write."""
    import pyarrow.parquet as pq

    check_file(path)
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, ValueError) as error:
        message = reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({message}); type --overwrite to start again") from error
    if KEY not in metadata:
        raise UserError(f"{path}: not written by bothways features; type a file that it wrote")
    return table_of(metadata[KEY], str(path))


def column_of(path: Path, name: str) -> Tensor:
    """Read a column: (N,D) float32, one row group at a time."""
    import pyarrow.parquet as pq

    check_file(path)
    with used(path), pq.ParquetFile(path) as file:
        if name not in file.schema_arrow.names:
            known = ", ".join(file.schema_arrow.names[3:])
            raise UserError(f"{path} has no column {name!r}; it has {known}")
        found = torch.empty(file.metadata.num_rows, file.schema_arrow.field(name).type.list_size)
        begin = 0
        for number in range(file.num_row_groups):
            chunk = file.read_row_group(number, columns=[name]).column(name).combine_chunks()
            rows = torch.from_numpy(chunk.flatten().to_numpy().copy()).view(len(chunk), -1)
            found[begin : begin + len(rows)] = rows
            begin += len(rows)
    return found


def facts_of_pictures(path: Path) -> tuple[list[int], list[str], Tensor]:
    """The place and name of each picture, and the labels (N,), -1 if unknown."""
    import pyarrow.parquet as pq

    check_file(path)
    with used(path):
        table = pq.read_table(path, columns=["place", "name", "label"])
        labels = torch.tensor(table["label"].fill_null(-1).to_pylist(), dtype=torch.int64)
        return table["place"].to_pylist(), table["name"].to_pylist(), labels
