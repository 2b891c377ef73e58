"""What a run wrote, as a few short values: bits that must be the same on one machine, and forms that are on all.

Of each file: a digest of what it holds (the pixels of a picture, the tensors, columns or numbers, not its bytes), its
form (size, names, shapes, kinds of numbers), and means of pictures and tensors, which another processor may move a
little.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

# Wording and provenance, whose form may change while the numbers stay: citations, and what scorecard.json says of how
# it was asked. Left out at the top of a file.
SKIPPED_AT_THE_TOP = ("citations", "recipe", "settings", "versions")
# Of these, wherever they stand, only that they are there counts: where data or a model came from, in words.
WORDED = ("reference", "source")
# Times and memory differ from run to run. Left out wherever they stand.
MEASURED_ANEW = re.compile(r"seconds|stages|seconds_per_picture|peak_mb|\w+/s")
# How a run goes on after a kill, not what it found; and its sheet, which is made of its pictures, in the fonts of the
# machine: neither listed nor read.
UNLISTED = {"state", "files.txt", "given.json", ".lock", "sheet.png"}
# Listed, and not read: settings, progress, pages, the state of an optimiser, and the cards of models (other .json).
READ_JSON = ("measures.json", "scorecard.json", "printed.json")

SHORT = 8  # hexadecimal digits that tell which file differs
PICTURE_APART = 2.0  # of 255: how far the mean of a picture may be on another processor
WEIGHTS_APART = (0.02, 0.05)  # of the mean of a tensor: absolute, and a share of it


@dataclass(frozen=True)
class Value:
    """digest: of what a file holds, "" where it is not read; form: what every machine makes alike."""

    digest: str = ""
    form: str = ""
    means: tuple[float, ...] = ()


def fingerprint() -> str:
    """What the last bit of a number depends on: torch, its kernels, and the processor."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    own = (torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine())
    return " | ".join((*map(str, own), named.group(1).strip() if named else "processor not named"))


def sha(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


# ---- a file ----------------------------------------------------------------------------------------------------------


def of_picture(path: Path) -> Value:
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
        form = f"{picture.mode} {picture.width}x{picture.height}"
    return Value(sha(form, pixels.tobytes()), form, (round(float(pixels.mean()), 2),))


def of_tensors(tensors: Mapping[str, Tensor]) -> Value:
    shapes, digests, means = [], [], []
    for name, value in sorted(tensors.items()):
        shapes.append(f"{name} {value.dtype} {tuple(value.shape)}")
        whole = value.detach().cpu().contiguous()
        digests.append(sha(shapes[-1], whole.reshape(-1).view(torch.uint8).numpy().tobytes()))
        means.append(float(f"{whole.double().mean():.3g}"))
    return Value(sha(*digests), sha(*shapes)[:SHORT], tuple(means))


def of_table(path: Path) -> Value:
    """The columns of a parquet file; what its schema tells beside them is wording."""
    table = pq.read_table(path).replace_schema_metadata(None)
    return Value(sha(json.dumps(table.to_pydict())), sha(table.schema.to_string(), len(table))[:SHORT])


def of_json(values: list[Any]) -> Value:
    """Of one JSON file, or of the lines of one."""
    kept = [numbers(value, top=True) for value in values]
    tree = sorted({branch for value in kept for branch in branches(value)})
    return Value(sha(json.dumps(kept, sort_keys=True)), sha(*tree)[:SHORT])


def numbers(value: Any, top: bool = False) -> Any:
    """A value without times and wording."""
    if isinstance(value, list):
        return [numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    skipped = {key for key in value if MEASURED_ANEW.fullmatch(key) or (top and key in SKIPPED_AT_THE_TOP)}
    kept = {key: item for key, item in value.items() if key not in skipped}
    return {key: type(item).__name__ if key in WORDED else numbers(item) for key, item in kept.items()}


def branches(value: Any, path: str = "") -> Iterator[str]:
    """The path of keys to every leaf, with the kind of the leaf; lists count as one, however long."""
    if isinstance(value, dict):
        yield f"{path}.{{}}"
        for key, item in value.items():
            yield from branches(item, f"{path}.{key}")
    elif isinstance(value, list):
        yield f"{path}[]"
        for item in value:
            yield from branches(item, f"{path}[]")
    else:
        yield f"{path} {type(value).__name__}"


def of_lines(path: Path) -> Value:
    return of_json([json.loads(line) for line in path.read_text("utf-8").splitlines()])


READERS: dict[str, Callable[[Path], Value]] = {
    ".png": of_picture,
    ".safetensors": lambda path: of_tensors(load_file(path)),
    ".parquet": of_table,
    ".jsonl": of_lines,
}


def of_file(path: Path) -> Value:
    if path.name in READ_JSON:
        return of_json([json.loads(path.read_text("utf-8"))])
    return READERS[path.suffix](path) if path.suffix in READERS else Value()


def of_folder(folder: Path) -> dict[str, Value]:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: of_file(path) for name, path in sorted(files.items()) if UNLISTED.isdisjoint(name.split("/"))}


# ---- beside what was recorded ----------------------------------------------------------------------------------------


def bits(values: Mapping[str, Value]) -> str:
    """One digest of all that was read, and a short one a file, in the order of their names."""
    read = {name: value.digest for name, value in sorted(values.items()) if value.digest}
    return " ".join((sha(*read.items()), *(digest[:SHORT] for digest in read.values())))


def forms(values: Mapping[str, Value]) -> dict[str, list[Any]]:
    return {name: [value.form, *value.means] for name, value in values.items()}


def differing_bits(values: Mapping[str, Value], recorded: str) -> list[str]:
    """The files that hold something else than was recorded."""
    now = bits(values)
    read = [name for name, value in sorted(values.items()) if value.digest]
    if now == recorded:
        return []
    before = recorded.split()[1:]
    if len(before) != len(read):
        return [f"{len(read)} files are read, {len(before)} were"]
    return [name for name, old, new in zip(read, before, now.split()[1:], strict=True) if old != new] or ["names"]


def differing_forms(values: Mapping[str, Value], recorded: Mapping[str, list[Any]]) -> list[str]:
    """The files that came or went, have another form, or whose means are further off than a processor moves them."""
    found = [f"{name} is missing" for name in recorded if name not in values]
    found += [f"{name} is new" for name in values if name not in recorded]
    for name in values.keys() & recorded.keys():
        form, *means = recorded[name]
        own = values[name]
        if form != own.form or len(means) != len(own.means):
            found.append(f"{name} has another form" + (f": {own.form}, was {form}" if " " in form else ""))
            continue
        apart, share = (PICTURE_APART, 0.0) if name.endswith(".png") else WEIGHTS_APART
        off = [abs(a - b) for a, b in zip(own.means, means, strict=True) if abs(a - b) > apart + share * abs(b)]
        if off:
            found.append(f"{name} has {len(off)} means further off than allowed, by {max(off):.3g}")
    return sorted(found)
