"""Preprocess command lines so that one flag can take several values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any


@dataclass
class Word:
    """A word of the command line.

    several: (flag, index of the flag in the command line) if the word is a value of a flag that takes several.
    positional: whether it is a positional argument.
    """

    text: str
    several: tuple[str, int] | None = None
    positional: bool = False


def repeat_flags(command: Any, arguments: list[str]) -> list[str]:
    """Repeat a flag before each of its values: ``--class a b c`` -> ``--class a --class b --class c``.

    arguments: the words after the name of the command. The values of a flag that takes several extend to the next
    flag. If a required positional argument is then missing, the last value of the last such flag with more than one
    value is used: ``generate --class frog MODEL`` draws frogs with MODEL, and ``edit --class frog MODEL PHOTO`` changes
    PHOTO. After ``--`` every word is positional. With ``--resume`` nothing is required, since the run has its own, so
    that only what looks like an address or is a file is used so.
    """
    words = list(_read(command, arguments))
    for _ in range(_needed(command, arguments) - sum(word.positional for word in words)):
        _give_back(words, addresses_alone="--resume" in arguments)
    return [text for word in words for text in ([word.several[0], word.text] if word.several else [word.text])]


def _read(command: Any, arguments: list[str]) -> Iterator[Word]:
    """Classify each word. A flag that takes several values is not yielded itself; its values carry it."""
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
    """Count the required positional arguments; one with ``unless`` is not required if all of those flags are set."""
    unless = getattr(command, "unless", {})
    typed = {word.partition("=")[0] for word in arguments}
    own = [param for param in command.params if param.param_type_name == "argument"]
    return sum(param.required or (param.name in unless and not typed.issuperset(unless[param.name])) for param in own)


def _give_back(words: list[Word], *, addresses_alone: bool) -> None:
    """Turn the last value of the last flag that has more than one value into a positional argument.

    addresses_alone: only one that looks like an address or is a file.
    """
    for word in reversed(words):
        if word.several and sum(other.several == word.several for other in words) > 1:
            if not addresses_alone or ":" in word.text or Path(word.text).exists():
                word.several, word.positional = None, True
            return


def _is_flag(text: str) -> bool:
    """Whether a word is a flag rather than a value or a negative number."""
    try:
        float(text)
    except ValueError:
        return text.startswith("-")
    return False
