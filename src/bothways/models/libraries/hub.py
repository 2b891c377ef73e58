"""Shared code of the model libraries: optional extras, the result of a load, and one-line errors.

Files come through the libraries' own caches. Weights are safetensors, or read by torch with ``weights_only``; code in a
repository is never run.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from torch import Tensor, nn

from bothways.models.libraries.known import FLOW_LIBRARIES, LIBRARIES, Library
from bothways.numerics.modules import torchvision_misfit
from bothways.processes.quiet import keep_quiet
from bothways.reading import at_home, check_file, is_folder, read_table
from bothways.types import ModelSpec, RunError, UserError
from bothways.types import Path as WalkedPath

LAYERS_AT_MOST = 2_000  # of a network; building many more takes hours, before the weights are seen not to fit
COUNTS_LAYERS = re.compile(r"depths?$|layers(_per_block)?$|blocks$")  # keys of a config

Text = Callable[[list[str]], Tensor]
"""P prompts -> (P,D), of any norm, in the space of the image embedding."""


class Loaded(NamedTuple):
    """A loaded module and its ModelSpec. text: its prompt encoder; path: of a flow, if it has no registry name.

    latents: of a flow on the latents of an autoencoder, that autoencoder (libraries/latents.py).
    """

    module: nn.Module
    spec: ModelSpec
    text: Text | None = None
    path: WalkedPath | None = None
    latents: nn.Module | None = None


def library(scheme: str) -> Any:
    """Import the library of an address scheme. Raises UserError with the command that installs it."""
    kind = _kind(scheme)
    keep_quiet()
    try:
        return import_module(kind.package)
    except Exception as error:
        if isinstance(error, ImportError) and error.name == kind.package:
            raise UserError(not_installed(scheme)) from error
        raise UserError(torchvision_misfit() or f"{kind.package} cannot be imported: {_reason(error)}") from error


def not_installed(scheme: str, package: str = "") -> str:
    """The error line where the library of an address scheme, or another package of its extra, is missing."""
    kind = _kind(scheme)
    needed = package or kind.package
    return f"the {kind.noun}'s address needs {needed}, which is not installed; type {kind.install}"


@contextmanager
def reading(scheme: str, name: str, file: str) -> Iterator[None]:
    """Convert any exception of a library while it reads ``file`` of a repository or folder to a one-line UserError."""
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)  # open_clip logs to the root logger, which prints if it has no handler
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(_line(scheme, name, file, error)) from error
    finally:
        logging.getLogger().removeHandler(silent)


@contextmanager
def silenced(logger: str) -> Iterator[None]:
    """A context without a library's own log, where the UserError repeats what it says."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def folder(name: str) -> Path | None:
    """The local folder of a name, or None. Raises UserError for an empty name and for a path that does not exist."""
    if not name:
        raise UserError("the model's address has no name after the colon; type a name or a folder")
    path = at_home(name)
    if path.is_dir():
        _check_files(path)
        return path
    if name.startswith((".", "~", os.sep)):
        raise UserError(f"folder {name!r} does not exist; type the path of a folder in the layout of the hub")
    return None


def _check_files(path: Path) -> None:
    """Refuse what a library would wait for, in a folder and the folders in it.

    Raises UserError for a pipe or a device, and for a config of more layers than LAYERS_AT_MOST.
    """
    for file in (*path.iterdir(), *path.glob("*/*")):
        if not is_folder(file):
            with suppress(FileNotFoundError):  # of a link that leads nowhere, which the library tells of if it needs it
                check_file(file)
                if file.name == "config.json":
                    _check_layers(file, read_table(file))


def _check_layers(file: Path, value: Any, key: str = "") -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_layers(file, inner, str(name))
    elif COUNTS_LAYERS.search(key):
        counts = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
        if max(counts, default=0) > LAYERS_AT_MOST:
            raise UserError(
                f"{file}: {key}={value!r} is more than {LAYERS_AT_MOST:,} layers; give the config of the weights"
            )


def in_one_line(scheme: str, reader: Callable[..., Loaded]) -> Callable[..., Loaded]:
    """The reader of an address, for which any exception is a UserError: a damaged folder can cause every kind."""

    @wraps(reader)
    def read(name: str, *more: Any) -> Loaded:
        try:
            return reader(name, *more)
        except (UserError, RunError):
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {_reason(error)}"
            raise UserError(
                f"{_kind(scheme).noun} '{scheme}:{name}' cannot be loaded ({told}); mend its files"
            ) from error

    return read


def _kind(scheme: str) -> Library:
    return (LIBRARIES | FLOW_LIBRARIES)[scheme]


def _line(scheme: str, name: str, file: str, error: Exception) -> str:
    what = f"{_kind(scheme).noun} '{scheme}:{name}'"
    if Path(name).is_dir() and not (Path(name) / file).exists():
        return f"{what}: no {file} in the folder {name}; give a folder saved by {_kind(scheme).package}"
    if Path(name).is_dir() or not isinstance(error.__cause__ or error.__context__ or error, OSError):
        return torchvision_misfit() or f"{what} cannot be loaded ({file}; {type(error).__name__}: {_reason(error)})"
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"{what}: {file} of {name!r} is neither in the cache {HF_HUB_CACHE} nor available from the hub "
        f"({_reason(error)}); type hf download {name} with a network, or {scheme}:FOLDER for a local folder"
    )


def _reason(error: BaseException) -> str:
    return shorten((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."), 160, placeholder=" ...")
