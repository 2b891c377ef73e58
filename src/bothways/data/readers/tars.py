"""Pictures in tar files, as webdataset has them: the files of a sample have one name up to its first dot.

    FILE.tar                FOLDER/shard-000000.tar, ..             shard-{000000..000009}.tar
    a/0001.jpg              FOLDER/train-000000.tar, FOLDER/val-000000.tar    or below FOLDER/SPLIT
    a/0001.cls              a number, or the name of a class; else of .json "cls", "label" or "class"; else .txt

A .txt that hardly ever repeats is a caption and no class. The order is that of the shards and of their members.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bothways.data.readers.decoding import SUFFIXES
from bothways.data.readers.entries import SPLITS, SplitEntries, counted, entries_of, evenly_spaced, in_order
from bothways.data.rows.held import read_at
from bothways.data.rows.members import Member, MemberRows, members_of
from bothways.progress import counted as stages
from bothways.reading import at_home, parsed
from bothways.types import UserError

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
SHARDS_AT_MOST = 100_000
NUMBERED = re.compile(r"(?P<name>.*?)[-_.]?(?P<number>\d+)")
LABEL_AT_MOST = 2**16  # bytes of a file that holds the label of a sample
KEYS = ("cls", "label", "class", "class_name", "label_name")  # of a .json
LABELLED = ("cls", "json", "txt")  # the first that is there says the class


@dataclass
class Sample:
    """The members of one name. picture: the first that is one; label: by its suffix, those that may hold the class."""

    picture: Member | None = None
    label: dict[str, Member] = field(default_factory=dict)


def is_tars(address: str) -> bool:
    """Whether an address is that of a tar file, or of several by a pattern."""
    return address.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def expanded(address: str) -> list[Path]:
    """The files of an address. Raises UserError for a pattern that is none, and for a file that is missing."""
    found = BRACES.search(address)
    if found is None:
        return [at_home(address)]
    first, last, width = int(found[1]), int(found[2]), len(found[1])
    if not first <= last < first + SHARDS_AT_MOST or BRACES.search(address, found.end()):
        raise UserError(f"data {address!r}: type one range of shards, such as shard-{{000000..000009}}.tar")
    names = [f"{address[: found.start()]}{k:0{width}d}{address[found.end() :]}" for k in range(first, last + 1)]
    files = [at_home(name) for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"data {address!r}: {len(missing)} of {len(files)} files are missing, the first: {missing[0]}")
    return files


def tars_of(folder: Path) -> dict[str, list[Path]]:
    """{split: its tar files in a folder, or in its folders of splits}; {} where there are none."""
    below = {place.name: sorted(place.glob("*.tar")) for place in folder.iterdir() if place.name in SPLITS}
    if found := {split: files for split, files in below.items() if files}:
        return found
    splits: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.tar")):
        number = NUMBERED.fullmatch(path.stem)
        name = number["name"] if number else path.stem
        last = re.split(r"[-_.]", name)[-1]
        splits.setdefault(last if last in SPLITS else "", []).append(path)
    return splits if set(splits) <= {""} or "" not in splits else {"": [f for files in splits.values() for f in files]}


def tar_split(folder: Path, split: str) -> tuple[list[Path], list[Path]] | None:
    """(the tar files of a split, those of all others); None for a folder without any.

    A folder of one set of files has no splits: it is all of any. Raises UserError for a split that is not there.
    """
    splits = tars_of(folder)
    if not splits:
        return None
    if set(splits) == {""}:
        return splits[""], []
    if split not in splits:
        raise UserError(f"data {str(folder)!r} has no split {split!r}; it has {', '.join(sorted(splits))}")
    return splits[split], [file for name, files in splits.items() if name != split for file in files]


def from_tars(files: Sequence[Path], limit: int | None, others: Sequence[Path] = ()) -> SplitEntries:
    """The pictures of some tar files. others: those of all other splits, whose classes count too.

    Warns of samples without a picture, of links, and of pictures without a label beside others.
    Raises UserError for a damaged file, and for labels that are numbers in one place and names in another.
    """
    rows, given, odd = _indexed(files)
    beside = _indexed(others)[1] if others else []
    classes, number = _classes(files[0], given, beside)
    labels = np.array([-1 if one is None else number.get(one, -1) for one in given], np.int64)
    rows = MemberRows(**{**rows.__dict__, "labels": labels})
    for line in odd:
        warnings.warn(f"data {str(files[0])!r}: {line}", stacklevel=5)
    without = int((labels < 0).sum())
    if 0 < without < len(labels):
        warnings.warn(f"data {str(files[0])!r}: {without} of {len(labels)} pictures have no label", stacklevel=5)
    chosen = evenly_spaced(len(labels), limit)
    return SplitEntries(classes, len(chosen), entries_of(rows, chosen), rows=lambda stream: rows)


def _indexed(files: Sequence[Path]) -> tuple[MemberRows, list[int | str | None], list[str]]:
    """The pictures of files, the class of each as it stands there, and what is odd about them, a line each."""
    facts = tuple(
        (file, file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else (file, 0, 0) for file in files
    )
    return _index(facts)


@lru_cache(maxsize=8)  # a task looks up its data more than once
def _index(facts: tuple[tuple[Path, int, int], ...]) -> tuple[MemberRows, list[int | str | None], list[str]]:
    files = [file for file, _, _ in facts]
    begins: list[int] = []
    pictures: list[Member] = []
    given: list[Any] = []
    lonely = links = 0
    for file in stages(files, "reading the index of tar files"):
        begins.append(len(pictures))
        try:
            samples, own = _samples(file)
        except FileNotFoundError as error:
            raise UserError(f"data {str(file)!r} does not exist; give all shards") from error
        links += own
        for sample in samples:
            if sample.picture is None:
                lonely += bool(sample.label)
                continue
            pictures.append(sample.picture)
            given.append(_label(file, sample))
    odd = [f"{lonely} samples have no picture and are passed over"] if lonely else []
    odd += [f"{links} links or special files are passed over"] if links else []
    rows = MemberRows(
        tuple(files), tuple(begins), np.array([p.offset for p in pictures], np.int64),
        np.array([p.size for p in pictures], np.int64), tuple(p.name for p in pictures), np.zeros(0, np.int64),
    )  # fmt: skip
    return rows, _without_captions(given), odd


def _samples(file: Path) -> tuple[list[Sample], int]:
    """The samples of a file in the order of their first members, and the number of links and the like."""
    samples: dict[str, Sample] = {}
    links = 0
    for member in members_of(file):
        links += member.offset < 0
        path = PurePosixPath(member.name)
        base, _, suffix = path.name.partition(".")
        if member.offset <= 0 or not base:  # a folder, a link, a hidden file
            continue
        sample, suffix = samples.setdefault(str(path.with_name(base)), Sample()), suffix.lower()
        if f".{suffix.rpartition('.')[2]}" in SUFFIXES:
            sample.picture = sample.picture or member
        elif suffix in LABELLED:
            sample.label[suffix] = member
    return list(samples.values()), links


def _label(file: Path, sample: Sample) -> int | str | tuple[str] | None:
    """The class of a sample; of a .txt in a tuple, since it may be a caption. Raises UserError for what is none."""
    suffix = next((kind for kind in LABELLED if kind in sample.label), None)
    if suffix is None:
        return None
    member = sample.label[suffix]
    where = f"data {str(file)!r}: {member.name}"
    if member.size > LABEL_AT_MOST:
        raise UserError(f"{where} has {member.size:,} bytes, and at most {LABEL_AT_MOST:,} of a label are read")
    content = read_at(file, member.offset, member.size)
    if suffix == "json":
        return _of_json(parsed(content, where), where)
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not text in UTF-8") from error
    if suffix == "txt":
        return (text,)
    if not text or len(text.splitlines()) > 1 or re.fullmatch(r"[-+]?\d{19,}", text):
        raise UserError(f"{where} holds {text[:40]!r}; a label is a whole number or the name of a class, in one line")
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else text


def _of_json(facts: Any, where: str) -> int | str | None:
    if not isinstance(facts, dict):
        raise UserError(f'{where} holds no table; write {{"cls": 3}} or {{"class_name": "frog"}}')
    found = next((facts[key] for key in KEYS if facts.get(key) is not None), None)
    if found is None or (isinstance(found, str) and found.strip()):
        return found if found is None else found.strip()
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) >= 2**62:
        raise UserError(f"{where}: the label {str(found)[:40]!r} is no whole number and no name of a class")
    return found


def _without_captions(given: Sequence[Any]) -> list[int | str | None]:
    """Classes of .txt as they are where they repeat; none where more than half are different, as captions are."""
    texts = [one[0] for one in given if isinstance(one, tuple)]
    captions = 2 * len(set(texts)) > max(2, len(texts))
    return [(None if captions or not one[0] else one[0]) if isinstance(one, tuple) else one for one in given]


def _classes(
    file: Path, given: Iterable[int | str | None], beside: Iterable[int | str | None]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names of the classes, and {class as it stands there: its number}; numbers alone are counted."""
    known = {one for one in (*given, *beside) if one is not None}
    names, numbers = {one for one in known if isinstance(one, str)}, {one for one in known if isinstance(one, int)}
    if names and numbers:
        raise UserError(
            f"data {str(file)!r}: some labels are numbers, such as {min(numbers)}, and some are names, such as "
            f"{min(names)!r}; write one kind"
        )
    if numbers:
        return counted(numbers)
    ordered = in_order(names)
    return ordered, {name: place for place, name in enumerate(ordered)}
