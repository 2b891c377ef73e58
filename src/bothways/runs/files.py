"""Crash-safe files: whole files are replaced atomically, lines are appended, an incomplete last line is dropped.

    write -> fsync -> rename        (POSIX: a rename within one folder is atomic)

A reader therefore sees the old file or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor

from bothways.budget import no_memory_left
from bothways.opening import opened
from bothways.reading import (
    FACTS_AT_MOST,
    LINES_AT_MOST,
    WITHOUT,
    as_text,
    checked,
    is_folder,
    is_there,
    parsed,
    read_bytes,
    table_of,
)
from bothways.reading import reason as reason  # of the errors of writing, too
from bothways.runs.inventory import PARTIAL, check_own, note
from bothways.types import RunError, UserError


def _sync_folder(folder: Path) -> None:
    # Not every file system supports opening or syncing a folder; there the rename alone has to do.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: {reason(error)}; earlier work is saved, so fix this and type --resume") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` on success; a failure leaves ``path`` unchanged.

    Raises RunError if it cannot be written.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    with _kept(path):
        try:
            partial.unlink(missing_ok=True)  # of a killed run; where it is a link or a pipe, it is not written through
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if not path.exists():
                note(path)
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically. Raises RunError if it cannot be written."""
    with replacing(path) as file:
        file.write(content)


def check_output(path: Path, mark: bytes) -> None:
    """Refuse to replace a file that is not one of ours. mark: what its first megabyte holds if it is.

    Raises UserError for a folder, a link or a device, and for a file without the mark.
    """
    if is_folder(path) or path.is_symlink() or (path.exists() and not path.is_file()):  # a folder: looked up first
        raise UserError(f"{path}: is no ordinary file; type the name of another to write")
    if path.exists():
        with path.open("rb") as file:  # an ordinary one, as is known by now
            if mark not in file.read(2**20):
                raise UserError(f"{path}: is there, and bothways did not write it; type another name, or remove it")


def plain(value: Any) -> Any:
    """Convert ``value`` to plain JSON values: arrays to lists, NaN and infinities to None, other objects to str."""
    if isinstance(value, Mapping):
        return {as_text(str(key)): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # tensors, NumPy arrays and their scalars
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else as_text(str(value))


def dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to dotted names: {"settings.lr": 0.1, ...}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def json_line(value: Any) -> bytes:
    """A line of JSON with its newline."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    replace_file(path, json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n")


def read_json(path: Path, schema: type[BaseModel] | None = None, *, partly: bool = False) -> dict[str, Any]:
    """Read a table of JSON; {} if there is no file. Raises UserError if it is none, or not as the schema says.

    partly: as for ``reading.check``.
    """
    try:
        content = read_bytes(path, FACTS_AT_MOST)
    except FileNotFoundError:
        return {}
    return table_of(content, str(path), schema, WITHOUT, partly=partly)


def append_lines(path: Path, values: Iterable[Any]) -> None:
    """Append a JSON line per value in one write; a failed write is truncated away."""
    content = b"".join(json_line(value) for value in values)
    if not content:
        return
    check_own(path)
    if not path.exists():
        note(path)
    with _kept(path), path.open("ab") as file:
        before = file.seek(0, os.SEEK_END)
        try:
            file.write(content)
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise


def _whole_lines(path: Path, schema: type[BaseModel] | None = None) -> tuple[list[dict[str, Any]], int]:
    """The parsed lines and their length in bytes, both without an incomplete last line."""
    try:
        content = read_bytes(path, LINES_AT_MOST)
    except FileNotFoundError:
        return [], 0
    lines = content.split(b"\n")[:-1]  # bytes after the last newline are an incomplete line
    values: list[dict[str, Any]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        where, cure = f"{path}: line {number}", "remove that line"
        try:
            value = parsed(line, where, cure)
        except UserError as error:
            if number == len(lines):  # after a power loss the length may be written without the bytes
                break
            raise UserError(f"{where} is not JSON; {cure}") from error
        values.append(checked(value, where, schema, cure))
        size += len(line) + 1
    return values, size


def read_lines(path: Path, schema: type[BaseModel] | None = None) -> list[dict[str, Any]]:
    """Read a file of JSON lines, without an incomplete last line; [] if there is no file.

    Raises UserError for a line that is no table, or not as the schema says.
    """
    return _whole_lines(path, schema)[0]


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that lines can be appended."""
    _, size = _whole_lines(path)
    if is_there(path) and path.stat().st_size != size:
        with _kept(path):
            os.truncate(path, size)


def inside(folder: Path, file: str, named_by: str = "pictures.jsonl") -> Path:
    """The path of a file of a run folder. Raises UserError for one outside, which a name or a link can lead to."""
    path = folder / file
    try:
        outside = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a NUL, or links that lead in a circle
        raise UserError(f"{folder}: {named_by} names {file!r}, which no file can be called") from error
    if outside:
        raise UserError(f"{folder}: {named_by} names {file!r}, outside the run folder")
    return path


def to_png(image: Tensor) -> bytes:
    """Encode ``image`` (3,H,W) in [0,1] as 8-bit PNG: round(255 x), clamped, NaN as black.

    (4,H,W) has an alpha channel.
    """
    if image.ndim != 3 or image.shape[0] not in (3, 4):
        raise UserError(f"to_png: an image is (3, H, W), this one is {tuple(image.shape)}")
    values = image.detach().to("cpu", torch.float32).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    pixels = (255 * values).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def from_png(content: bytes, mode: str = "RGB") -> Tensor:
    """Decode a PNG: (3,H,W) float32 in [0,1], (4,H,W) for mode "RGBA". Raises UserError if the bytes are no picture."""
    try:
        with opened(content, ("PNG",)) as picture:
            pixels = picture.convert(mode)
    except ValueError as error:
        raise UserError(f"from_png: {len(content)} bytes that are not a picture ({error})") from error
    try:
        values = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
        whole = values.reshape(pixels.height, pixels.width, len(mode)).permute(2, 0, 1).contiguous().float()
    except (MemoryError, RuntimeError) as error:
        if not no_memory_left(error):
            raise
        raise UserError(f"from_png: no memory is left for a picture of {pixels.width}x{pixels.height}") from error
    return whole.div_(255)
