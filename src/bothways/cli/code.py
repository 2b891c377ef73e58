"""Which Python files a command may run: those that its user typed, not those that a run folder or a card names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bothways import registry
from bothways.reading import SETTINGS_AT_MOST, at_home, read_bytes
from bothways.types import UserError

FILE = re.compile(r"""[^\s=,'"\[\]]+\.py(?=:|$|[\s,'"\]])""")
ADVICE = "the same with --allow-code {file}"


@contextmanager
def typed_code_alone(arguments: Sequence[str]) -> Iterator[None]:
    """Inside, the Python files of these arguments may run and no other."""
    before = registry.allowed_addresses()
    registry.allow_only(typed_files(arguments), ADVICE)
    try:
        yield
    finally:
        registry.allow_only(before)


def typed_files(arguments: Sequence[str]) -> Iterator[str]:
    """PATH.py of every argument, and of the recipe files among them; the recipe.toml of a run is none of the user's."""
    for word in arguments:
        yield from FILE.findall(word)
        with suppress(OSError, UserError):  # told where it is read for its own sake
            file = at_home(word)
            if file.suffix == ".toml" and not (file.parent / "status.json").exists():
                yield from FILE.findall(read_bytes(file, SETTINGS_AT_MOST).decode("utf-8", "replace"))
