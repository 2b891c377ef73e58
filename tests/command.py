"""The command line as a person types it, in this process."""

from __future__ import annotations

import pytest

from bothways.cli import main


def run(*arguments: object) -> int:
    """The exit code of ``bothways ARGUMENTS``."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that ``bothways ARGUMENTS`` says of a mistake, with exit code 2 and nothing on standard output."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("bothways: ")
    assert err.count("\n") == 1
    assert out == ""
    return err
