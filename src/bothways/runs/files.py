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
from torch import Tensor

from bothways.opening import opened
from bothways.runs.inventory import PARTIAL, note
from bothways.types import RunError, UserError


def reason(error: OSError) -> str:
    """The message of the operating system, starting in lower case."""
    return (error.strerror or str(error)).lower()


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
            with partial.open("wb") as file:
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
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path}: is no ordinary file; type the name of another to write")
    if path.exists():
        with path.open("rb") as file:
            if mark not in file.read(2**20):
                raise UserError(f"{path}: is there, and bothways did not write it; type another name, or remove it")


def plain(value: Any) -> Any:
    """Convert ``value`` to plain JSON values: arrays to lists, NaN and infinities to None, other objects to str."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # tensors, NumPy arrays and their scalars
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON dictionary; {} if there is no file. Raises UserError if it is not a JSON dictionary."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); restore the file, or remove it to go without") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}, not a table; restore the file, or remove it")
    return value


def append_lines(path: Path, values: Iterable[Any]) -> None:
    """Append a JSON line per value in one write; a failed write is truncated away."""
    content = b"".join(json_line(value) for value in values)
    if not content:
        return
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


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The parsed lines and their length in bytes, both without an incomplete last line."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = content.split(b"\n")[:-1]  # bytes after the last newline are an incomplete line
    values: list[dict[str, Any]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):  # after a power loss the length may be written without the bytes
                break
            raise UserError(f"{path}: line {number} is not JSON; remove that line") from error
        size += len(line) + 1
    return values, size


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, without an incomplete last line; [] if there is no file."""
    return _whole_lines(path)[0]


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that lines can be appended."""
    _, size = _whole_lines(path)
    if path.exists() and path.stat().st_size != size:
        with _kept(path):
            os.truncate(path, size)


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
    values = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
    return values.reshape(pixels.height, pixels.width, len(mode)).permute(2, 0, 1).contiguous().float() / 255
