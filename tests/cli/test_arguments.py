"""Arguments as people type them: several values after one flag, positional arguments in any place."""

from __future__ import annotations

import pytest
from typer.main import get_command

from bothways.cli.entry import app, expand_flags
from command import refused, run


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        # several values after one flag
        ("generate M --class a b c", "generate M --class a --class b --class c"),
        ("generate --class a b --only 1 2 -n 3 M", "generate --class a --class b --only 1 --only 2 -n 3 M"),
        ("generate M --class=a --class b c", "generate M --class=a --class b --class c"),
        ("features R --depth -.2 0 --steps 2", "features R --depth -.2 --depth 0 --steps 2"),
        ("generate M --prompt a --prompt b:-.3", "generate M --prompt a --prompt b:-.3"),
        # the model stands before, between or after: it is the last value where it would be missing
        ("generate --class frog M", "generate --class frog M"),
        ("generate --class frog ship M", "generate --class frog --class ship M"),
        ("generate --class frog M --n 2", "generate --class frog M --n 2"),
        ("generate --n 2 M --class frog ship", "generate --n 2 M --class frog --class ship"),
        ("generate --class frog --judge J M", "generate --class frog --judge J M"),
        ("generate --class frog M --judge J", "generate --class frog M --judge J"),
        ("generate --unconditional M", "generate --unconditional M"),
        ("generate --prompt a --prompt b M", "generate --prompt a --prompt b M"),
        ("generate --score A --class a M", "generate --score A --class a M"),
        # no model is missing where other models score and condition
        ("generate --score A B --condition C --class e", "generate --score A --score B --condition C --class e"),
        ("generate --condition A B --class c d", "generate --condition A --condition B --class c --class d"),
        ("generate --class c d --condition A B", "generate --class c --class d --condition A --condition B"),
        ("edit M --condition C P", "edit M --condition C P"),
        ("generate --score=A --condition=C --class e f", "generate --score=A --condition=C --class e --class f"),
        # a flag keeps one value
        ("generate --class frog", "generate --class frog"),
        ("generate --class --n 2", "generate --class --n 2"),
        ("generate --class", "generate --class"),
        # a model and a photo
        ("edit --class frog M P", "edit --class frog M P"),
        ("edit M --class frog P", "edit M --class frog P"),
        ("edit --class frog M --box 8 8 24 24 P", "edit --class frog M --box 8 8 24 24 P"),
        ("edit --box 8 8 24 24 --class frog M P --strength -1", "edit --box 8 8 24 24 --class frog M P --strength -1"),
        ("edit M P --class frog ship", "edit M P --class frog --class ship"),
        # after -- every word is positional, and what is no flag of the command is left to the parser
        ("generate --class frog ship -- M", "generate --class frog --class ship -- M"),
        ("generate M --class a --colour red", "generate M --class a --colour red"),
        ("report a b", "report a b"),
        ("sample --steps 2 F", "sample --steps 2 F"),
        ("nothing --class a b", "nothing --class a b"),
        ("--version", "--version"),
        ("", ""),
    ],
)  # fmt: skip
def test_words_are_read_as_they_are_meant(typed: str, read: str) -> None:
    assert " ".join(expand_flags(get_command(app), typed.split())) == read


def test_a_model_may_stand_after_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'nowhere.py' does not exist" in refused(capsys, "generate", "--class", "frog", "nowhere.py:build")
    assert "no model was given" in refused(capsys, "generate", "--class", "frog")


def test_another_name_in_the_usage_would_not_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sample", "-h") == 0
    assert "Usage: bothways sample [OPTIONS] {flow}" in capsys.readouterr().out
