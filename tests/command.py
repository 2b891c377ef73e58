"""The command line as a person types it, in this process."""

from __future__ import annotations

import pytest

from bothways.cli import main


def run(*arguments: object) -> int:
    """The exit code of ``bothways ARGUMENTS``."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)
