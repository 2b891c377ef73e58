"""Data sets of the Hugging Face hub, ``hub:OWNER/NAME``, through the datasets library and its cache.

``hub:OWNER/NAME:CONFIG`` names one of several configurations, and ``hub:FOLDER`` reads a local folder of any layout
that the library knows. The columns are the first Image and the first ClassLabel among the data set's own features.
``stream:hub:OWNER/NAME`` downloads nothing beforehand: its parquet files are read where they are, a group of rows at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from bothways.data.readers.entries import Entries, SplitEntries, bytes_of, counted, entries_of, evenly_spaced
from bothways.data.readers.parquet import columns_of, rows_of
from bothways.data.rows.arrow import RowFile, label_column
from bothways.processes.quiet import keep_quiet
from bothways.progress import counted as stages
from bothways.progress import stage
from bothways.reading import at_home
from bothways.types import UserError

SCHEME = "hub:"
HUB_NAMES = {  # what people call a data set -> where the hub has it
    "cifar10": "hub:uoft-cs/cifar10",
    "cifar-10": "hub:uoft-cs/cifar10",
    "cifar100": "hub:uoft-cs/cifar100",
    "mnist": "hub:ylecun/mnist",
    "fashion-mnist": "hub:zalando-datasets/fashion_mnist",
    "svhn": "hub:ufldl-stanford/svhn",
    "tiny-imagenet": "hub:zh-plus/tiny-imagenet",
    "imagenet": "hub:ILSVRC/imagenet-1k",
}


@dataclass(frozen=True)
class TableRows:
    """Rows of a data set in the library's cache. name: of the data set and its split."""

    name: str
    table: Any
    column: str
    labels: np.ndarray
    begins: tuple[int, ...] = (0,)

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        return ((f"{self.name} row {row}", _bytes(self.table[int(row)][self.column])) for row in rows)


def from_hub(address: str, split: str, limit: int | None) -> SplitEntries:
    """The images of a split. Raises UserError if the library, the data set, the split or an image column is missing."""
    name, config = _named(address)
    table = _loaded(partial(_library().load_dataset, split=split), name, config, split)
    datasets = _library()
    image = next((key for key, kind in table.features.items() if isinstance(kind, datasets.Image)), None)
    label = next((key for key, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if image is None:
        raise UserError(f"data {address!r} has no image column; it has {', '.join(table.features)}")
    classes = tuple(table.features[label].names) if label else ()
    table = table.select_columns([image, *filter(None, [label])]).cast_column(image, datasets.Image(decode=False))
    chosen = evenly_spaced(len(table), limit)

    def entries() -> Entries:
        for row in chosen:
            found = table[row]
            known = -1 if label is None or found[label] is None else found[label]
            yield f"{name} {split} row {row}", _bytes(found[image]), known

    def rows(stream: bool) -> TableRows:
        given = [-1] * len(table) if label is None else table[label][:]
        labels = np.array([-1 if one is None else one for one in given], np.int64)
        return TableRows(f"{name} {split}", table, image, labels)

    return SplitEntries(classes, len(chosen), entries(), rows=rows if limit is None else None)


def from_hub_stream(address: str, split: str, limit: int | None) -> SplitEntries:
    """The images of a split, of which only the sizes and the labels are read at first.

    Raises UserError as ``from_hub`` does, and for a data set that is not of parquet files.
    """
    name, config = _named(address)
    builder = _loaded(_library().load_dataset_builder, name, config, split)
    files = {str(key): [str(file) for file in found] for key, found in (builder.config.data_files or {}).items()}
    if split not in files:
        raise UserError(f"data {address!r} has no split {split!r}; it has {', '.join(sorted(files)) or 'no files'}")
    if other := next((file for file in files[split] if not file.endswith(".parquet")), None):
        raise UserError(
            f"data {address!r} is not of parquet files ({Path(other).name}), which alone are read in place; type "
            f"hf download {name} --repo-type dataset --local-dir FOLDER, then stream:FOLDER"
        )
    shards, columns = [], None
    for file in stages(files[split], "reading the index of parquet files"):
        opened = RowFile(file, ()).opened()
        facts = opened.metadata
        shards.append(RowFile(file, tuple(facts.row_group(k).num_rows for k in range(facts.num_row_groups))))
        columns = columns or columns_of(file, opened.schema_arrow)
    assert columns is not None
    names = columns.classes or tuple(getattr((builder.info.features or {}).get(columns.label or ""), "names", ()))
    if names or columns.label is None:
        number = {k: k for k in range(len(names))}
    else:
        names, number = counted({int(one) for shard in shards for one in label_column(shard, columns.label)})
    rows = rows_of(shards, replace(columns, classes=names), number)
    chosen = evenly_spaced(sum(sum(shard.counts) for shard in shards), limit)

    def entries() -> Entries:
        yield from entries_of(rows(True), chosen)

    return SplitEntries(names, len(chosen), entries(), rows=rows if limit is None else None)


def _named(address: str) -> tuple[str, str | None]:
    name, _, config = address.removeprefix(SCHEME).partition(":")
    if not name:
        raise UserError(f"data {address!r} has no name after the colon; type hub:OWNER/NAME")
    return name, config or None


def _bytes(cell: dict[str, Any] | None) -> bytes:
    """The bytes of an image cell, or of the file that it refers to."""
    held, path = (cell or {}).get("bytes"), (cell or {}).get("path")
    if held is None and path and Path(path).is_file():
        return bytes_of(Path(path))
    return held or b""


def _library() -> Any:
    keep_quiet()
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            'a data set of the hub needs the library datasets; type pip install "bothways[datasets]"'
        ) from error
    return datasets


@stage("reading a data set of the hub")
def _loaded(load: Callable[..., Any], name: str, config: str | None, split: str) -> Any:
    datasets = _library()
    try:
        return load(name, config)
    except Exception as error:  # the library, the network and the files of a data set raise exceptions of any class
        reason = shorten(str(error) or type(error).__name__, 200, placeholder=" ...").rstrip(".")
        unreached = isinstance(error, ConnectionError | FileNotFoundError)
        if unreached and not at_home(name).is_dir():
            raise UserError(
                f"data 'hub:{name}': {split!r} of {name!r} is neither in the cache {datasets.config.HF_DATASETS_CACHE} "
                f"nor available from the hub ({reason}); type hf download {name} --repo-type dataset on a machine with "
                "a network, or a local folder in place of hub:"
            ) from error
        raise UserError(
            f"data 'hub:{name}' cannot be loaded as {split!r}: {reason}; type hub:OWNER/NAME or hub:OWNER/NAME:CONFIG"
        ) from error
