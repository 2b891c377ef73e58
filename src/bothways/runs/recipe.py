"""recipe.toml of a run folder: write it, read it, and compare settings before a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from bothways.reading import as_text, check, read_toml
from bothways.runs.files import dotted
from bothways.runs.inventory import RECIPE
from bothways.runs.schema import Recipe
from bothways.types import UserError


def as_toml(tables: Mapping[str, Any]) -> str:
    """The TOML text of tables, without None values."""
    return tomli_w.dumps(_value(tables))


def read_tables(folder: Path) -> dict[str, Any]:
    """Read the recipe.toml of a run folder. Raises UserError if it cannot be read or has another layout."""
    path = folder / RECIPE
    try:
        tables = read_toml(path)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: not a run folder, {RECIPE} is missing; type the folder that a run wrote") from error
    if "task" not in tables:
        versions = tables.get("versions")
        writer = versions.get("bothways") if isinstance(versions, Mapping) else None
        raise UserError(
            f"{path}: of a run of bothways {writer or 'before 0.2'}, whose layout this version does not read; "
            "install that version to read it, or run it again"
        )
    check(tables, Recipe, str(path))
    return tables


def differences(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """{dotted name: (the saved value, the given one)} of the settings that differ, each as text."""
    old, new = dotted(saved), dotted(given)
    found = {}
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = repr(old[key]) if key in old else "not set", repr(new[key]) if key in new else "not set"
        if was != now and not (key in old and key in new and old[key] == new[key]):  # 1 and 1.0 are one value
            found[key] = was, now
    return found


def require_equal(
    path: Path, saved: Mapping[str, Any], given: Mapping[str, Any], but: Sequence[str] = (), table: str = "settings."
) -> None:
    """Raise UserError if a setting of a resumed run differs from the saved one. but: those of ``table`` that may."""
    for key, (was, now) in differences(saved, given).items():
        if key.removeprefix(table) not in but:
            raise UserError(
                f"{path}: {key} was {was} when this run began and is {now} now; "
                "type the first value to --resume, or --overwrite to start again"
            )


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {as_text(str(key)): _value(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value if item is not None]
    if hasattr(value, "tolist"):  # NumPy and torch scalars
        return value.tolist()
    return as_text(value) if isinstance(value, str | Path) else value
