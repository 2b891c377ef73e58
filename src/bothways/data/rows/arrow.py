"""Rows of parquet files, whose pictures cannot be reached one by one.

    ArrowRows     unpacked once into a file of the cache, from which any picture is read where it lies
    GroupRows     a group of rows at a time, for a stream: nothing is unpacked, and a few groups are held

The cache is ``bothways/rows`` in XDG_CACHE_HOME, or in ~/.cache. A file of it goes by the paths, sizes and times of
what it was made of, is made by one process while others wait, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from bothways import budget
from bothways.progress import stage
from bothways.reading import at_home
from bothways.types import UserError

GROUP_AT_MOST = 2 * 2**30  # bytes of a group of rows that is held whole
BATCH = 256  # rows that are unpacked at a time
MAPPED: dict[Path, tuple[list[Any], list[int]]] = {}  # of this process: the files of the cache that are open


@dataclass(frozen=True)
class RowFile:
    """A file, or the address of one that fsspec opens. counts: the rows of each of its groups."""

    path: str
    counts: tuple[int, ...]

    @property
    def name(self) -> str:
        return Path(self.path).name

    def opened(self) -> Any:
        """pyarrow's reader. Raises UserError where it cannot be read."""
        import pyarrow.parquet

        try:
            if "://" not in self.path:
                return pyarrow.parquet.ParquetFile(self.path)
            import fsspec

            system, place = fsspec.core.url_to_fs(self.path)
            return pyarrow.parquet.ParquetFile(system.open(place, "rb"))
        except Exception as error:  # a network, its library and pyarrow raise exceptions of any class
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"data {self.path!r} cannot be read: {reason}") from error


def encoded(column: Any) -> list[bytes]:
    """The encoded pictures of a column: of structs with bytes, as the hub stores them, or bytes; none where null."""
    import pyarrow.compute

    if pyarrow.types.is_struct(column.type):
        column = pyarrow.compute.struct_field(column, "bytes")
    return [data if isinstance(data, bytes) else b"" for data in column.to_pylist()]


def label_column(file: RowFile, column: str | None) -> np.ndarray:
    """(rows,) int64, as they are in the file; -1 where there is none. Raises UserError where they cannot be read."""
    import pyarrow

    if column is None:
        return np.full(sum(file.counts), -1, np.int64)
    try:
        found = file.opened().read(columns=[column]).column(0)
        return np.array(found.fill_null(-1).cast(pyarrow.int64(), safe=False).to_numpy(), np.int64)
    except (OSError, ValueError, LookupError, pyarrow.ArrowException) as error:
        raise UserError(
            f"data {file.path!r}: its labels cannot be read: {' '.join(str(error).split())[:200]}"
        ) from error


# ---- unpacked ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrowRows:
    """Rows in a file of Arrow. names: of the parquet files they come from; ``begins`` has the first row of each."""

    file: Path
    names: tuple[str, ...]
    begins: tuple[int, ...]
    labels: np.ndarray

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        columns, starts = _mapped(self.file)
        for row in rows:
            shard, batch = bisect_right(self.begins, row) - 1, bisect_right(starts, row) - 1
            data = columns[batch][row - starts[batch]].as_py()
            yield f"{self.names[shard]} row {row - self.begins[shard]}", data or b""


def unpacked(files: Sequence[RowFile], column: str, labels: np.ndarray) -> ArrowRows:
    """The rows of some parquet files, unpacked into the cache unless they are there already.

    Raises UserError where the disk is too small, and for damaged files.
    """
    from filelock import FileLock

    place = cache_folder() / f"{_digest(files, column)}.arrow"
    begins = tuple(accumulate((sum(file.counts) for file in files[:-1]), initial=0))
    rows = ArrowRows(place, tuple(file.name for file in files), begins, labels)
    if place.is_file():
        return rows
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if not place.is_file():
                _unpack(files, column, place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"the pictures of {files[0].path!r} cannot be unpacked into {place.parent}: {reason}; set XDG_CACHE_HOME "
            "to a folder with room, or type --data stream:ADDRESS"
        ) from error
    return rows


def cache_folder() -> Path:
    """Where rows are unpacked."""
    return at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bothways" / "rows"


def _digest(files: Sequence[RowFile], column: str) -> str:
    known = hashlib.sha256(column.encode())
    for file in files:
        facts = Path(file.path).stat()
        known.update(f"|{Path(file.path).resolve()}|{facts.st_size}|{facts.st_mtime_ns}".encode())
    return known.hexdigest()[:32]


def _unpack(files: Sequence[RowFile], column: str, place: Path) -> None:
    import pyarrow

    need = sum(Path(file.path).stat().st_size for file in files) * 1.1  # encoded pictures hardly get smaller
    budget.check_disk(
        f"the pictures of {files[0].path!r}, unpacked to be read in any order,", need, place.parent,
        lambda free: "set XDG_CACHE_HOME to a folder with room, or type --data stream:ADDRESS",
    )  # fmt: skip
    partial = place.with_name(f".{place.name}.partial")  # one name, so that the next one replaces that of a killed run
    schema = pyarrow.schema([("image", pyarrow.large_binary())])
    try:
        with (
            stage("unpacking pictures", sum(sum(file.counts) for file in files)) as now,
            pyarrow.OSFile(str(partial), "wb") as sink,
            pyarrow.ipc.new_file(sink, schema) as writer,
        ):
            for file in files:
                for batch in _batches(file, column):
                    cells = encoded(batch.column(0))
                    writer.write_batch(pyarrow.record_batch([pyarrow.array(cells, pyarrow.large_binary())], schema))
                    now.advance(len(cells))
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def _batches(file: RowFile, column: str) -> Iterator[Any]:
    import pyarrow

    try:
        yield from file.opened().iter_batches(BATCH, columns=[column])
    except (ValueError, LookupError, pyarrow.ArrowException) as error:
        raise UserError(f"data {file.path!r} is damaged: {' '.join(str(error).split())[:200]}") from error


def _mapped(path: Path) -> tuple[list[Any], list[int]]:
    """The pictures in a file of the cache by batches, none of them read yet, and the row with which each begins."""
    import pyarrow

    if path not in MAPPED:
        try:
            table = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
            columns = [table.get_batch(k).column(0) for k in range(table.num_record_batches)]
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(
                f"{path}: the unpacked pictures cannot be read; delete it, and they are made again"
            ) from error
        MAPPED[path] = columns, list(accumulate(map(len, columns[:-1]), initial=0))
    return MAPPED[path]


# ---- a group of rows at a time -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupRows:
    """Rows of parquet files by their groups. labels: as they are counted."""

    files: tuple[RowFile, ...]
    column: str
    labels: np.ndarray
    _held: OrderedDict[tuple[int, int], list[bytes]] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )  # of this process

    def __getstate__(self) -> dict[str, Any]:  # what another process is sent
        return {**self.__dict__, "_held": OrderedDict()}

    @property
    def begins(self) -> tuple[int, ...]:
        return tuple(accumulate((sum(file.counts) for file in self.files[:-1]), initial=0))

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        begins = self.begins
        starts = [list(accumulate(file.counts[:-1], initial=0)) for file in self.files]
        for row in rows:
            shard = bisect_right(begins, row) - 1
            place = row - begins[shard]
            group = bisect_right(starts[shard], place) - 1
            name = f"{self.files[shard].name} row {place}"
            yield name, self._group(shard, group, near)[place - starts[shard][group]]

    def _group(self, shard: int, group: int, near: int) -> list[bytes]:
        """The pictures of a group; those used last are kept, as many as hold the rows that may be needed again."""
        if (shard, group) in self._held:
            self._held.move_to_end((shard, group))
            return self._held[shard, group]
        read = self._held[shard, group] = self._read(shard, group)
        rows = sum(map(len, self._held.values()))
        while len(self._held) > 2 and rows - len(next(iter(self._held.values()))) >= 2 * near + len(read):
            rows -= len(self._held.popitem(last=False)[1])
        return read

    def _read(self, shard: int, group: int) -> list[bytes]:
        import pyarrow

        file = self.files[shard]
        where = (
            f"data {file.path!r} is damaged in rows {sum(file.counts[:group])} to {sum(file.counts[: group + 1]) - 1}"
        )
        opened = _reader(file.path, os.getpid(), _changed(file.path))
        try:
            size = opened.metadata.row_group(group).total_byte_size
            if size > GROUP_AT_MOST:
                raise UserError(
                    f"data {file.path!r}: a group of its rows has {budget.amount(size)}, and at most "
                    f"{budget.amount(GROUP_AT_MOST)} are read at once; write it in groups of fewer rows"
                )
            found = encoded(opened.read_row_group(group, columns=[self.column]).column(0))
        except (OSError, ValueError, LookupError, pyarrow.ArrowException) as error:
            raise UserError(f"{where}: {' '.join(str(error).split())[:200]}") from error
        if len(found) != file.counts[group]:
            raise UserError(f"{where}: {len(found)} rows are there")
        return found


@lru_cache(maxsize=4)  # whose index of groups is read once
def _reader(path: str, process: int, changed: int) -> Any:
    """pyarrow's reader of a file. process: whose it is, since an open file of the network is of one alone."""
    return RowFile(path, ()).opened()


def _changed(path: str) -> int:
    """When a file of the disk was written; 0 for others, and where none is there any more."""
    try:
        return 0 if "://" in path else Path(path).stat().st_mtime_ns
    except OSError:
        return 0
