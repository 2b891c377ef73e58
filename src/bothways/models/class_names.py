"""Matching of class names: one rule for user input, labels of data sets, and judges.

    normal form    case-insensitive, underscores are spaces: "Great_White_Shark" = "great white shark"
    match          the whole name; else a comma-separated synonym that no other class has, such as "tinca tinca" of
                   "tench, Tinca tinca"; the query is matched as a whole, by the WordNet number at its end, without
                   that, then up to its first comma
    number         7 from Python; "7" as user input, if no class has that name; "0-3" and "all" are several

Two classes may share a name, as two of ImageNet's "crane" do: ``matches`` gives both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from numbers import Integral

from bothways.brief import shown
from bothways.types import UserError

ALL = "all"  # every class
RANGE = re.compile(r"(\d+)-(\d+)")
WNID = re.compile(r"n\d{8}")  # of WordNet, which tells apart classes of one name


def words_of(name: str) -> list[str]:
    """The comma-separated synonyms of a name in normal form, the main one first."""
    return [" ".join(word.replace("_", " ").split()) for word in name.casefold().split(",")]


def matches(known: Sequence[str], name: str) -> tuple[int, ...]:
    """Indices in ``known`` of the classes that match a name: none, one, or all that share it."""
    whole, words = _index(tuple(known))
    parts = words_of(name)
    numbered = (parts[-1], ", ".join(parts[:-1])) if len(parts) > 1 and WNID.fullmatch(parts[-1]) else ()
    for form in (", ".join(parts), *numbered, parts[0]):
        if form in whole:
            return whole[form]
        if form in words:
            return (words[form],)
    return ()


def same(a: str, b: str) -> bool:
    """Whether two names are equal as a whole or up to their first comma."""
    forms = [{", ".join(words), words[0]} for words in map(words_of, (a, b))]
    return bool(forms[0] & forms[1])


def resolve(known: Sequence[str], given: str | int) -> int:
    """Index in ``known`` of a class name or number typed by the user; the last of several with one name.

    A whole number, which is no text, is that index, whatever the classes are called.
    Raises UserError, with the nearest names, if there is none.
    """
    if _is_index(known, given):
        return int(given)
    text = str(given).strip()
    if found := matches(known, text):
        return found[-1]
    if text.isdecimal() and int(text) < len(known):
        return int(text)
    whole, words = _index(tuple(known))
    if not any(name and not name.isdecimal() for name in whole):
        names = ', or state the names: ModelSpec(classes="imagenet")' if len(known) == 1000 else ""
        raise UserError(
            f"no class {shown(given)}: its classes have no names; type a number from 0 to {len(known) - 1}{names}"
        )
    near = get_close_matches(", ".join(words_of(text)), [*words, *whole], n=3, cutoff=0.4)
    hint = f"the nearest are {', '.join(dict.fromkeys(near))}" if near else f"type a name or 0 to {len(known) - 1}"
    raise UserError(f"no class {shown(given)}; {hint}")


def resolve_all(known: Sequence[str], given: Sequence[str | int]) -> list[int]:
    """Indices in ``known`` of classes as a user types them, each once: names, numbers, ranges such as "0-3", and "all".

    What is the name of a class is that class: "all", or "7-8", can be one.
    Raises UserError as ``resolve`` does, and for a range that leaves the classes.
    """
    found: list[int] = []
    for one in given:
        text = str(one).strip()
        bounds = RANGE.fullmatch(text)
        if _is_index(known, one) or matches(known, text) or not (bounds or text.casefold() == ALL):
            found.append(resolve(known, one))
            continue
        first, last = (0, len(known) - 1) if bounds is None else map(int, bounds.groups())
        if not first <= last < len(known):
            raise UserError(f"no classes {text}; type a range within 0-{len(known) - 1}")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def _is_index(known: Sequence[str], given: str | int) -> bool:
    return isinstance(given, Integral) and not isinstance(given, bool) and 0 <= given < len(known)


@lru_cache(maxsize=64)
def _index(known: tuple[str, ...]) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """({whole name: its indices}, {synonym: index of the one class with it})."""
    split = [words_of(name) for name in known]
    whole: dict[str, tuple[int, ...]] = {}
    for place, words in enumerate(split):
        form = ", ".join(words)
        whole[form] = (*whole.get(form, ()), place)
    count = Counter(word for words in split for word in set(words))
    return whole, {word: place for place, words in enumerate(split) for word in words if word and count[word] == 1}
