"""Images in parquet files: a single file, one file per split, or shards in the layout of the hub.

    FOLDER/SPLIT.parquet      FOLDER/data/SPLIT-00000-of-00002.parquet      FOLDER/CONFIG/SPLIT-00000-of-00001.parquet

The columns are the first Image and the first ClassLabel among the features that the hub writes into the schema; a file
without them has a column ``image`` of encoded bytes, and a column ``label`` where it has labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from bothways.data.readers import latents
from bothways.data.readers.entries import SPLITS, Entries, Rows, SplitEntries, counted, evenly_spaced, in_order
from bothways.data.rows.arrow import GroupRows, RowFile, label_column, unpacked
from bothways.reading import check_file
from bothways.types import UserError

SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<count>\d+)")
ROWS = 256  # of a file that are held at a time
ROWS_AT_MOST = 50_000_000  # a file that states more is taken for damaged
FEATURES = b"huggingface"  # the entry of the schema's metadata


@dataclass(frozen=True)
class Columns:
    """Names of the image and label columns of a file, and the class names. latents: what they are, of no pictures."""

    image: str
    label: str | None
    classes: tuple[str, ...]
    latents: latents.LatentFacts | None = None


def find_shards(folder: Path, split: str) -> list[Path] | None:
    """Parquet files of a split in a folder, in order; None if the folder holds no parquet file.

    A folder with one file, or one set of shards, that is not named as a split has no splits: each is all of it.
    Raises UserError if the split or one of its shards is missing, or if there are several sets of files.
    """
    splits = shards_of(folder)
    if not splits:
        return None
    if not named_splits(splits):
        (split,) = splits
    if split not in splits:
        raise UserError(f"data {str(folder)!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
    _check_all_there(splits[split])
    return splits[split]


def shards_of(folder: Path) -> dict[str, list[Path]]:
    """{split: its parquet files below a folder, in order}. Raises UserError for several sets of files side by side."""
    places = [p for p in (folder, folder / "data") if any(p.glob("*.parquet"))]
    if not places:
        places = sorted({p.parent for p in folder.glob("*/*.parquet")})
    if len(places) > 1:
        raise UserError(
            f"data {str(folder)!r} holds several sets of parquet files; type one of {', '.join(map(str, places))}"
        )
    splits: dict[str, list[Path]] = {}
    for path in sorted(places[0].glob("*.parquet")) if places else ():
        shard = SHARD.fullmatch(path.stem)
        splits.setdefault(shard["split"] if shard else path.stem, []).append(path)
    return splits


def named_splits(splits: Iterable[str]) -> bool:
    """Whether names of files are those of splits: where there is more than one, or the only one is a usual name."""
    names = list(splits)
    return len(names) > 1 or any(name.casefold() in SPLITS for name in names)


def _check_all_there(shards: Sequence[Path]) -> None:
    numbered = [shard for path in shards if (shard := SHARD.fullmatch(path.stem))]
    totals = {int(shard["count"]) for shard in numbered}
    if numbered and (len(totals) > 1 or len(numbered) < len(shards) or len(shards) != max(totals)):
        raise UserError(
            f"data {str(shards[0])!r}: {len(shards)} files are there of {max(totals)}; give the folder with all shards"
        )


def from_parquet(files: Sequence[Path], limit: int | None, others: Sequence[Path] = ()) -> SplitEntries:
    """The pictures of some files with the same columns, read a few rows at a time.

    others: the files of all other splits, whose classes count too, so that a label means the same in each.
    """
    opened = [_opened(path) for path in files]
    counts = [_count(path, file) for path, file in zip(files, opened, strict=True)]
    columns = [columns_of(path, file.schema_arrow) for path, file in zip(files, opened, strict=True)]
    metas = [file.metadata for file in opened]
    groups = [tuple(meta.row_group(k).num_rows for k in range(meta.num_row_groups)) for meta in metas]
    if len({(found.image, found.label, found.latents) for found in columns}) > 1:
        raise UserError(f"data {str(files[0])!r} and its shards differ in their columns; give files of one data set")
    classes, numbers = _classes(files, columns[0], others)
    chosen = evenly_spaced(sum(counts), limit)

    def entries() -> Entries:
        begins = [0, *accumulate(counts)]
        for path, begin, end in zip(files, begins, begins[1:], strict=False):
            rows = _rows(path, columns[0], [place - begin for place in chosen if begin <= place < end])
            yield from ((name, data, numbers.get(label, -1)) for name, data, label in rows)

    shards = [RowFile(str(path), group) for path, group in zip(files, groups, strict=True)]
    whole = limit is None and columns[0].latents is None  # latents are read into memory
    rows = rows_of(shards, columns[0], numbers) if whole else None
    return SplitEntries(classes, len(chosen), entries(), rows=rows, latents=columns[0].latents)


def rows_of(shards: Sequence[RowFile], columns: Columns, numbers: Mapping[int, int]) -> Callable[[bool], Rows]:
    """(stream) -> the rows of files: a group at a time, or unpacked. numbers: of the labels as they are there."""

    def rows(stream: bool) -> Rows:
        given = np.concatenate([label_column(shard, columns.label) for shard in shards])
        values, places = np.unique(given, return_inverse=True)
        labels = np.array([numbers.get(int(value), -1) for value in values], np.int64)[places]
        if stream:
            return GroupRows(tuple(shards), columns.image, labels)
        return unpacked(shards, columns.image, labels)

    return rows


def _classes(files: Sequence[Path], columns: Columns, others: Sequence[Path]) -> tuple[tuple[str, ...], dict[int, int]]:
    """The names of the classes, and {label as it is in the files: its place among them}.

    Without names in the files there are none where the labels are all of 0..K-1, so that they are counted; labels with
    gaps go by their numbers as names. Raises UserError for a label that has no name beside others that have.
    """
    if columns.label is None:
        return (), {}
    labels = sorted({label for path in files for label in _labels_in(path, columns.label)})
    if columns.classes:
        if labels and labels[-1] >= len(columns.classes):
            raise UserError(
                f"data {str(files[0])!r} has label {labels[-1]} and names {len(columns.classes)} classes, 0 to "
                f"{len(columns.classes) - 1}; mend the labels or the names"
            )
        named = [columns.classes, *(found for path in others if (found := _names_in(path)))]
        same = all(found == columns.classes for found in named)
        classes = columns.classes if same else in_order(name for found in named for name in found)
        return classes, {label: classes.index(name) for label, name in enumerate(columns.classes)}
    beside = {label for path in others for label in _labels_in(path, columns.label)}
    return counted({*labels, *beside})


def _labels_in(path: Path, column: str) -> set[int]:
    """The labels of a file, without negative ones, which stand for unknown; none of a file that has no such column."""
    import pyarrow.compute
    import pyarrow.parquet

    try:
        with _reading(path, ""):
            check_file(path)
            found = pyarrow.compute.unique(pyarrow.parquet.read_table(path, columns=[column])[column]).to_pylist()
    except UserError:
        return set()  # told where the pictures of that file are read
    return {label for label in found if isinstance(label, int) and label >= 0}


def _names_in(path: Path) -> tuple[str, ...]:
    """The names of classes in a file of another split; none where it cannot be read."""
    try:
        return columns_of(path, _opened(path).schema_arrow).classes
    except UserError:
        return ()


def _opened(path: Path) -> Any:
    import pyarrow.parquet

    check_file(path)
    with _reading(path, "is not a readable parquet file"):
        return pyarrow.parquet.ParquetFile(path)


@contextmanager
def _reading(path: Path, failed: str) -> Iterator[None]:
    """A context in which whatever pyarrow raises becomes a UserError of one line."""
    import pyarrow

    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, MemoryError, pyarrow.ArrowException) as error:
        raise UserError(f"data {str(path)!r} {failed}: {_reason(error)}") from error


def _count(path: Path, file: Any) -> int:
    """The rows of a file. Raises UserError where it states more than it can hold."""
    with _reading(path, "is not a readable parquet file"):
        count = int(file.metadata.num_rows)
        groups = sum(file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups))
    if count != groups or not 0 <= count <= ROWS_AT_MOST:
        raise UserError(f"data {str(path)!r} is damaged: it states {count} rows, and {groups} in its groups")
    return count


def _features(path: Path | str, schema: Any) -> Mapping[str, Any]:
    """The features that the hub writes into the schema; none of another file. Raises UserError for damaged ones."""
    try:
        facts = json.loads((schema.metadata or {}).get(FEATURES, b"{}"))
        found = facts.get("info", {}).get("features", {})
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"data {str(path)!r}: the entry {FEATURES.decode()!r} of its schema is no table of features "
            f"({_reason(error)}); write it again, or leave the entry out"
        ) from error


def columns_of(path: Path | str, schema: Any) -> Columns:
    """The columns of a file by its schema. Raises UserError where it has none of pictures, or odd labels."""
    import pyarrow

    if (latent := latents.stated(schema, str(path))) is not None:
        return Columns(latents.COLUMN, latents.LABEL if latents.LABEL in schema.names else None, latent[1], latent[0])
    features = _features(path, schema)
    kinds = {name: feature.get("_type") for name, feature in features.items() if name in schema.names}
    if "Image" in kinds.values():
        image = next(name for name, kind in kinds.items() if kind == "Image")
        label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    elif "image" in schema.names:
        image, label = "image", "label" if "label" in schema.names else None
    else:
        raise UserError(f"data {str(path)!r} has no column 'image'; it has {', '.join(map(_shown, schema.names))}")
    _check_pictures(path, image, schema)
    kind = schema.field(label).type if label else pyarrow.null()
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind)):
        raise UserError(
            f"data {str(path)!r} has labels that are not whole numbers (column {label!r} is of {kind}); number the "
            "classes, or state their names in the features of the file"
        )
    names = features.get(label or "", {}).get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"data {str(path)!r}: the features name the classes of column {label!r} by {shorten(repr(names), 60)}; "
            "write a list of names"
        )
    return Columns(image, label, tuple(names))


def _check_pictures(path: Path | str, column: str, schema: Any) -> None:
    """Raise UserError for a column that cannot hold encoded pictures, and for two of one name."""
    import pyarrow

    if schema.names.count(column) > 1:
        raise UserError(f"data {str(path)!r} has {schema.names.count(column)} columns {column!r}; leave one")
    kind = stored = schema.field(column).type
    if pyarrow.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pyarrow.null()
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    known = (pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_fixed_size_binary)
    if not any(is_known(kind) for is_known in (*known, pyarrow.types.is_binary_view)):
        raise UserError(
            f"data {str(path)!r}: column {column!r} is of {shorten(str(stored), 60)}; give encoded pictures, as bytes "
            "or as a struct with a field 'bytes'"
        )


def _rows(path: Path, columns: Columns, rows: Sequence[int]) -> Entries:
    """Selected rows of one file, in order."""
    names = [columns.image] + ([columns.label] if columns.label else [])
    rest, begin = list(reversed(rows)), 0
    batches = iter(_opened(path).iter_batches(ROWS, columns=names))
    while rest:
        with _reading(path, f"is damaged after row {begin}"):
            batch = next(batches, None)
        if batch is None:
            raise UserError(f"data {str(path)!r} is damaged: it ends after row {begin}")
        images, labels = batch.column(columns.image), batch.column(columns.label) if columns.label else None
        while rest and rest[-1] < begin + len(batch):
            row = rest.pop()
            with _reading(path, f"is damaged at row {row}"):
                image = latents.content_of(images[row - begin]) if columns.latents else images[row - begin].as_py()
                label = None if labels is None else labels[row - begin].as_py()
            # the hub stores a struct with the bytes, other writers the bytes themselves
            data = image.get("bytes") if isinstance(image, dict) else image
            yield f"{path.name} row {row}", data if isinstance(data, bytes) else b"", -1 if label is None else label
        begin += len(batch)


def _shown(name: str) -> str:
    return name if name.isprintable() and name else repr(name)


def _reason(error: BaseException) -> str:
    return shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
