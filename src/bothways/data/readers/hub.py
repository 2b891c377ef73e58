"""Data sets of the Hugging Face hub, ``hub:OWNER/NAME``, through the datasets library and its cache.

``hub:OWNER/NAME:CONFIG`` names one of several configurations, and ``hub:FOLDER`` reads a local folder of any layout
that the library knows. The columns are the first Image and the first ClassLabel among the data set's own features.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Any

from bothways.data.readers.entries import Entries, SplitEntries, bytes_of, evenly_spaced
from bothways.progress import stage
from bothways.types import UserError

SCHEME = "hub:"


def from_hub(address: str, split: str, limit: int | None) -> SplitEntries:
    """The images of a split. Raises UserError if the library, the data set, the split or an image column is missing."""
    name, _, config = address.removeprefix(SCHEME).partition(":")
    if not name:
        raise UserError(f"data {address!r} has no name after the colon; type hub:OWNER/NAME")
    table = _loaded(name, config or None, split)
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

    return SplitEntries(classes, len(chosen), entries())


def _bytes(cell: dict[str, Any] | None) -> bytes:
    """The bytes of an image cell, or of the file that it refers to."""
    held, path = (cell or {}).get("bytes"), (cell or {}).get("path")
    if held is None and path and Path(path).is_file():
        return bytes_of(Path(path))
    return held or b""


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            'a data set of the hub needs the library datasets; type pip install "bothways[datasets]"'
        ) from error
    return datasets


@stage("reading a data set of the hub")
def _loaded(name: str, config: str | None, split: str) -> Any:
    datasets = _library()
    try:
        return datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library, the network and the files of a data set raise exceptions of any class
        reason = shorten(str(error) or type(error).__name__, 200, placeholder=" ...").rstrip(".")
        unreached = isinstance(error, ConnectionError | FileNotFoundError)
        if unreached and not Path(name).expanduser().is_dir():
            raise UserError(
                f"data 'hub:{name}': {split!r} of {name!r} is neither in the cache {datasets.config.HF_DATASETS_CACHE} "
                f"nor available from the hub ({reason}); type hf download {name} --repo-type dataset on a machine with "
                "a network, or a local folder in place of hub:"
            ) from error
        raise UserError(
            f"data 'hub:{name}' cannot be loaded as {split!r}: {reason}; type hub:OWNER/NAME or hub:OWNER/NAME:CONFIG"
        ) from error
