"""The same few pictures as a folder, parquet files, tar files and CIFAR's binary files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hub_parquet import write_hub_parquet

NAMES = ("ant", "bee", "cat")


def pixels(seed: int, side: int = 8) -> np.ndarray:
    """(side, side, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png(seed: int, side: int = 8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(out, "PNG")
    return out.getvalue()


def write_folder(folder: Path, count: int, broken: Iterable[int] = ()) -> Path:
    """Picture k is of class k % 3; those that are broken cannot be decoded."""
    torn = set(broken)
    for k in range(count):
        (folder / NAMES[k % 3]).mkdir(parents=True, exist_ok=True)
        (folder / NAMES[k % 3] / f"{k:03}.png").write_bytes(b"torn" if k in torn else png(k))
    return folder


def write_parquet(folder: Path, counts: Sequence[int], broken: Iterable[int] = (), names=NAMES) -> Path:
    """Shards of so many pictures each, in groups of four rows."""
    import pyarrow.parquet

    torn, first = set(broken), 0
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for shard, count in enumerate(counts):
        file = folder / "data" / f"train-{shard:05}-of-{len(counts):05}.parquet"
        rows = range(first, first + count)
        write_hub_parquet(file, [b"torn" if k in torn else png(k) for k in rows], [k % 3 for k in rows], names)
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(file), file, row_group_size=4)
        first += count
    return folder


def write_tar(file: Path, members: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def write_tars(folder: Path, counts: Sequence[int], broken: Iterable[int] = ()) -> Path:
    """Shards of so many samples each, a picture and a number of the class."""
    torn, first = set(broken), 0
    for shard, count in enumerate(counts):
        members: dict[str, bytes] = {}
        for k in range(first, first + count):
            members[f"{k:04}.png"] = b"torn" if k in torn else png(k)
            members[f"{k:04}.cls"] = str(k % 3).encode()
        write_tar(folder / f"shard-{shard:06}.tar", members)
        first += count
    return folder


def write_cifar(folder: Path, counts: Sequence[int] = (2, 2, 2, 2, 2), test: int = 4) -> Path:
    """CIFAR-10's binary files. Picture k has the pixels of seed k and class k % 10; those of test go from 100 on."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for k, count in enumerate(counts, start=1):
        rows = [bytes([i % 10]) + pixels(i, 32).transpose(2, 0, 1).tobytes() for i in range(first, first + count)]
        (folder / f"data_batch_{k}.bin").write_bytes(b"".join(rows))
        first += count
    rows = [bytes([i % 10]) + pixels(i, 32).transpose(2, 0, 1).tobytes() for i in range(100, 100 + test)]
    (folder / "test_batch.bin").write_bytes(b"".join(rows))
    (folder / "batches.meta.txt").write_text(
        "airplane automobile bird cat deer dog frog horse ship truck\n".replace(" ", "\n")
    )
    return folder
