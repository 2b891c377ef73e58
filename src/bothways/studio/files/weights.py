"""Weights that are uploaded: safetensors as they are, a .pth read as numbers alone and written as safetensors."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

from bothways.studio.child import answer
from bothways.types import UserError

MB_AT_MOST = 120  # a ResNet-50 in float32 has 102
KEPT = 8  # uploaded files of weights; the oldest goes first
SUFFIXES = (".safetensors", ".pth", ".pt")
HINT = "choose a .safetensors file, or a .pth that torch.save wrote of a state_dict"


def keep_weights(file: str | Path, folder: Path) -> Path:
    """Take an uploaded file of weights into ``folder``, as safetensors; where it lies then.

    Raises UserError for a file that is too large, that is damaged, or that holds more than tensors by name.
    """
    file = Path(file)
    facts = file.lstat()
    if not S_ISREG(facts.st_mode) or file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file.name} is no file of weights; {HINT}")
    if facts.st_size > 1e6 * MB_AT_MOST:
        raise UserError(f"{file.name} has {facts.st_size / 1e6:.0f} MB, more than {MB_AT_MOST} MB; {_too_large(file)}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    kept = folder / digest / f"{file.stem}.safetensors"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            answer(_convert, file, kept)  # in a process of its own: the file is a stranger's
        except UserError:
            shutil.rmtree(kept.parent)
            raise
    kept.parent.touch()  # the newest
    for old in sorted(folder.iterdir(), key=lambda place: place.stat().st_mtime_ns)[:-KEPT]:
        shutil.rmtree(old)
    return kept


def _too_large(file: Path) -> str:
    return f"put it in a folder, type bothways studio --allow FOLDER, and fill in its path, such as FOLDER/{file.name}"


def _convert(file: Path, kept: Path) -> None:
    """In the process: check the file, and write it as safetensors."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    if file.suffix.lower() == ".safetensors":
        try:
            with safe_open(file, "pt") as opened:
                opened.keys()
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{file.name} cannot be read as safetensors; {HINT}") from error
        shutil.copyfile(file, kept)
        return
    found = _read_pth(file)
    whole = next((found[name] for name in ("state_dict", "model") if isinstance(found.get(name), Mapping)), found)
    save_file({name: value.detach().clone().contiguous() for name, value in _tensors(whole, file.name).items()}, kept)


def _read_pth(file: Path) -> Mapping[str, Any]:
    import torch

    try:
        with zipfile.ZipFile(file) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > 2e6 * MB_AT_MOST:  # before anything of it is unpacked
            raise UserError(f"{file.name} unpacks to {size / 1e6:.0f} MB, more than {2 * MB_AT_MOST} MB; {HINT}")
        found = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file, or one that would run code, raises
        raise UserError(f"{file.name} is not numbers alone, or is damaged; {HINT}") from error
    if not isinstance(found, Mapping):
        raise UserError(f"{file.name} holds a {type(found).__name__}, no tensors by name; {HINT}")
    return found


def _tensors(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    import torch

    others = [key for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if others or not found:
        raise UserError(f"{name} holds {others[0]!r}, no tensor; {HINT}" if others else f"{name} is empty; {HINT}")
    return dict(found)
