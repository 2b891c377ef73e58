"""What lies at a path -> its pictures: one table of the layouts that are known, and of their splits.

FILE.parquet; FILE.tar, shard-{000000..000009}.tar
FOLDER of parquet files; of CIFAR's binary files; of tar files; of pictures
FOLDER:KIND@SEVERITY      one corruption of CIFAR-10-C or Tiny-ImageNet-C
FOLDER:coarse             the coarse classes of CIFAR-100
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from bothways.data.readers.cifar import from_cifar, version_of
from bothways.data.readers.decoding import SUFFIXES
from bothways.data.readers.entries import SplitEntries
from bothways.data.readers.folders import from_folder, split_folder
from bothways.data.readers.parquet import find_shards, from_parquet, named_splits, shards_of
from bothways.data.readers.tars import expanded, from_tars, is_tars, tar_split, tars_of
from bothways.reading import at_home, is_folder, is_there
from bothways.types import UserError

CORRUPTION = re.compile(r"(?P<kind>\w+)@(?P<severity>\d+)")


STREAM = re.compile(r"stream(?:@(?P<buffer>[1-9]\d{0,8}))?:(?P<address>.+)")  # of shards, in a training
CHOICE = re.compile(r"(?P<folder>(?!hub:|hub$).+):(?P<chosen>\w+(?:@\d+)?)")


class Place(NamedTuple):
    """An address of the disk. chosen: what stands behind the folder, such as "fog@3"; "" for nothing."""

    path: Path
    chosen: str = ""


def place_of(address: str | Path) -> Place | None:
    """The place of an address; None where nothing is there. Raises UserError for what is neither file nor folder."""
    path = at_home(address)
    if is_folder(path) or is_there(path):
        return Place(path)
    if is_tars(str(address)) and "{" in str(address):
        return Place(path)
    choice = CHOICE.fullmatch(str(address))
    if choice and is_folder(at_home(choice["folder"])):
        return Place(at_home(choice["folder"]), choice["chosen"])
    return None


def file_named(address: str) -> str:
    """What an address opens of the disk, without ``stream:`` and a choice behind it; of a pattern, its folder."""
    stream = STREAM.fullmatch(address)
    address = stream["address"] if stream else address
    choice = CHOICE.fullmatch(address)
    address = choice["folder"] if choice else address
    return str(Path(address).parent) if is_tars(address) and "{" in address else address


def pictures_at(place: Place, split: str, limit: int | None) -> SplitEntries:
    """The pictures of a split. Raises UserError for a split that is not there, and for an unknown choice."""
    path, chosen = place
    if is_tars(str(path)):
        return from_tars(expanded(str(path)), limit)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        raise UserError(f"data {str(path)!r} is one picture; type the folder that it lies in")
    if path.is_file():
        return from_parquet([path], limit)
    if CORRUPTION.fullmatch(chosen):
        from bothways.data.corrupted import corrupted_entries  # which reads clean pictures by this file

        return corrupted_entries(path, chosen, limit)
    if (shards := find_shards(path, split)) and not chosen:
        return from_parquet(shards, limit, [file for files in shards_of(path).values() for file in files])
    if (version := version_of(path)) is not None:
        return from_cifar(path, version, split, limit, chosen)
    if chosen:
        raise UserError(
            f"data '{path}:{chosen}': type FOLDER:KIND@SEVERITY such as {path}:fog@3 for one corruption of CIFAR-10-C "
            "or Tiny-ImageNet-C, or FOLDER:coarse for CIFAR-100"
        )
    if (tars := tar_split(path, split)) is not None:
        return from_tars(tars[0], limit, tars[1])
    return from_folder(path, split, limit)


def is_split_at(place: Place, split: str) -> bool:
    """Whether the place has splits, of which this is one; False where any split is all of it.

    Raises UserError for a split that is not there.
    """
    path, chosen = place
    if not path.is_dir() or CORRUPTION.fullmatch(chosen):
        return False
    if find_shards(path, split) is not None:
        return named_splits(shards_of(path))
    if (version := version_of(path)) is not None:
        if split not in version.files:
            raise UserError(f"data {str(path)!r} has no split {split!r}; it has {', '.join(sorted(version.files))}")
        return True
    if tar_split(path, split) is not None:
        return set(tars_of(path)) != {""}
    return split_folder(path, split) != path
