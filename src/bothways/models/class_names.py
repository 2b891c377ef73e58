"""Which class a name means: one rule for what a user types, for the labels of data, and for judges.

    normal form    upper and lower case alike, underscores are spaces: "Great_White_Shark" = "great white shark"
    match          the whole name; else a comma-separated word that no other class has, such as "tinca tinca" of
                   "tench, Tinca tinca"; the name that is looked up counts as a whole, then up to its first comma
    number         "7" of a user, where no class is named so

Two classes may share a name, as two of ImageNet's "crane" do: ``matches`` gives both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from bothways.types import UserError


def words_of(name: str) -> list[str]:
    """The comma-separated words of a name in normal form; the first is the one that it goes by."""
    return [" ".join(word.replace("_", " ").split()) for word in name.casefold().split(",")]


def matches(known: Sequence[str], name: str) -> tuple[int, ...]:
    """The places in ``known`` of the class of a name: none, one, or all that share the name."""
    whole, words = _index(tuple(known))
    parts = words_of(name)
    for form in (", ".join(parts), parts[0]):
        if form in whole:
            return whole[form]
        if form in words:
            return (words[form],)
    return ()


def same(a: str, b: str) -> bool:
    """Whether two names have the whole, or what stands before a comma, in common."""
    forms = [{", ".join(words), words[0]} for words in map(words_of, (a, b))]
    return bool(forms[0] & forms[1])


def resolve(known: Sequence[str], given: str | int) -> int:
    """The place in ``known`` of what a user typed, a name or a number; of several of one name the last.

    Raises UserError, with the nearest names, for what is none.
    """
    text = str(given).strip()
    if found := matches(known, text):
        return found[-1]
    if text.isdecimal() and int(text) < len(known):
        return int(text)
    whole, words = _index(tuple(known))
    near = get_close_matches(", ".join(words_of(text)), [*words, *whole], n=3, cutoff=0.4)
    hint = f"the nearest are {', '.join(dict.fromkeys(near))}" if near else f"type a name or 0 to {len(known) - 1}"
    raise UserError(f"no class {given!r}; {hint}")


@lru_cache(maxsize=64)
def _index(known: tuple[str, ...]) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """({whole name: its places}, {word: the place of the one class that has it})."""
    split = [words_of(name) for name in known]
    whole: dict[str, tuple[int, ...]] = {}
    for place, words in enumerate(split):
        form = ", ".join(words)
        whole[form] = (*whole.get(form, ()), place)
    count = Counter(word for words in split for word in set(words))
    return whole, {word: place for place, words in enumerate(split) for word in words if word and count[word] == 1}
