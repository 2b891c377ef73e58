"""The last reproduction of a folder, which a resume without a name goes on with."""

from __future__ import annotations

from pathlib import Path

from bothways.reading import is_there
from bothways.runs.files import read_json
from bothways.runs.inventory import RECIPE
from bothways.runs.schema import Given
from bothways.tasks.reproduce.config import ReproduceConfig
from bothways.tasks.resume import GIVEN
from bothways.types import UserError


def named(config: ReproduceConfig, folder: Path, *, resume: bool) -> ReproduceConfig:
    """The config itself; without a name and with ``resume`` the last that wrote in the folder, with what is set now.

    Raises UserError where none is named.
    """
    if config.name is not None:
        return config
    if not resume:
        raise UserError("name is missing; type bothways reproduce NAME, or --list for the names")
    given = [place for place in folder.glob(f"*/{GIVEN}") if is_there(place.with_name(RECIPE))]
    if not given:
        raise UserError(f"{folder}: no reproduction is there to resume; type bothways reproduce NAME")
    last = max(given, key=lambda place: place.stat().st_mtime_ns)
    before = read_json(last, Given)["settings"]
    return ReproduceConfig(**{**before, **config.model_dump(exclude_unset=True, exclude_none=True)})
