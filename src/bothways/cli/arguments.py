"""Arguments as people type them -> as the parser reads them: several values after one flag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any


@dataclass
class Word:
    """A word of the command line. several: which flag, and the how-manieth time, took it as one of its values."""

    text: str
    several: tuple[str, int] | None = None
    positional: bool = False


def repeated(command: Any, arguments: list[str]) -> list[str]:
    """``--class a b c`` -> ``--class a --class b --class c``. arguments: what follows the name of the command.

    Values follow a flag that takes several up to the next flag. Where a positional argument that the command needs is
    then missing, it is the last value of the last such flag that has more than one: ``generate --class frog MODEL``
    draws frogs with MODEL, and ``edit --class frog MODEL PHOTO`` changes PHOTO. After ``--`` every word is positional.
    """
    words = list(_read(command, arguments))
    for _ in range(_needed(command, arguments) - sum(word.positional for word in words)):
        _give_back(words)
    return [text for word in words for text in ([word.several[0], word.text] if word.several else [word.text])]


def _read(command: Any, arguments: list[str]) -> Iterator[Word]:
    """Each word with what it is. A flag that takes several values stands before each of them, not for itself."""
    takes = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    place = 0
    while place < len(arguments):
        text, place = arguments[place], place + 1
        if text == "--":
            yield Word(text)
            yield from (Word(later, positional=True) for later in arguments[place:])
            return
        if not _is_flag(text):
            yield Word(text, positional=True)
            continue
        option = takes.get(text)
        if getattr(option, "multiple", False):
            values = list(takewhile(lambda word: not _is_flag(word), arguments[place:]))
            yield from (Word(value, (text, place)) for value in values) if values else [Word(text)]
        else:
            count = 0 if getattr(option, "is_flag", False) else getattr(option, "nargs", 0)
            values = arguments[place : place + count]
            yield from map(Word, [text, *values])
        place += len(values)


def _needed(command: Any, arguments: list[str]) -> int:
    """How many positional arguments must be there. One that some flags make needless is, unless all of them are."""
    unless = getattr(command, "unless", {})
    typed = {word.partition("=")[0] for word in arguments}
    own = [param for param in command.params if param.param_type_name == "argument"]
    return sum(param.required or (param.name in unless and not typed.issuperset(unless[param.name])) for param in own)


def _give_back(words: list[Word]) -> None:
    """Make a positional argument of the last value of the last flag that has more than one."""
    for word in reversed(words):
        if word.several and sum(other.several == word.several for other in words) > 1:
            word.several, word.positional = None, True
            return


def _is_flag(text: str) -> bool:
    """Whether a word is a flag, and no negative number."""
    try:
        float(text)
    except ValueError:
        return text.startswith("-")
    return False
