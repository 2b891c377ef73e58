"""Messages of the tasks in the words of the page: its controls in place of the options of the command line."""

from __future__ import annotations

import re
from functools import cache

from bothways.configs import leaves, option_of
from bothways.studio.requests import config_of, photo_tasks

CONTROLS = {  # option of the command line -> label of its control on the page
    "model": "Model",
    "mask": "Mask",
    "box": "Box instead of a mask",
    "data": "Real pictures",
    "class": "Classes",
    "classes": "Classes",
    "prompt": "Prompts",
    "weights": "Weights",
    "recipe": "Recipe",
    "n": "Count",
    "steps": "Steps",
    "seed": "Seed",
    "set": "Other settings",
}
OF_A_TAB = {
    "generate": {"layer": "Layer", "channel": "Channel"},
    "explain": {"n": "Portraits", "real": "Maximum real pictures"},
    "walk": {"data": "Data", "steps": "Steps each way", "limit": "Maximum pictures", "flow": "Flow"},
}
OTHERS = CONTROLS["set"]
ELSEWHERE = {  # what no control does -> what to do instead
    "resume": "go on in a terminal",
    "overwrite": "start a new run",
    "out": "start the studio with another folder of runs",
}
# A command for a terminal stays as it is, up to the end of its clause.
COMMAND = re.compile(r"\b(?:bothways|pip|hf) [^;,)]*")
INSTEAD = re.compile(rf"\btype --({'|'.join(ELSEWHERE)})(?![\w-])(?: [A-Z_]{{2,}}\b)*(?: to [a-z ]+)?")
FLAG = re.compile(
    r"(\btype (?:a smaller |fewer |another |another, such as |some of them, such as )?)?--([a-zA-Z][\w.-]*)"
)
WORD = re.compile(r"(?: [A-Z_]{2,}\b)+")  # stands for a value
VALUE = re.compile(r" (?!(?:or|and|with|to|for|too)\b)('[^']*'|[^\s;,()]+)")


@cache
def _settings() -> dict[str, str]:
    """{option without its dashes: setting of "Other settings"}, where the two differ."""
    found: dict[str, str] = {}
    for task in ("generate", *photo_tasks().values()):
        for place, field in leaves(config_of(task)):
            found |= {flag.lstrip("-"): place[-1] for flag in option_of(field, "flags") or () if "/" not in flag}
    return found


def in_words_of_the_page(text: str, kind: str = "") -> str:
    """A message of the command line with the labels of the page in place of options.

    "type --data DIR" -> 'fill in "Real pictures"'; "type --size 32" -> 'write size=32 in "Other settings"'. A command
    for a terminal, such as "type bothways models", stays. kind: the tab that shows it.
    """
    parts, end = [], 0
    for command in COMMAND.finditer(text):
        parts += [_translated(text[end : command.start()], kind), command[0]]
        end = command.end()
    return "".join([*parts, _translated(text[end:], kind)])


def _translated(text: str, kind: str) -> str:
    text, parts, end = INSTEAD.sub(lambda found: ELSEWHERE[found[1]], text), [], 0
    controls = CONTROLS | OF_A_TAB.get(kind, {})
    while found := FLAG.search(text, end):
        parts.append(text[end : found.start()])
        typed, name = bool(found[1]), found[2].rstrip(".-")
        end = found.start(2) + len(name)
        if named := WORD.match(text, end):
            end = named.end()
        value = VALUE.match(text, end) if typed and not named else None
        if name == "set" and (value := VALUE.match(text, end)):
            parts.append(f'{"write " if typed else ""}{value[1]} in "{OTHERS}"')
        elif name in ELSEWHERE:
            parts.append(f'"{name}"')
        elif name in controls:
            parts.append(f'{"fill in " if typed else ""}"{controls[name]}"' + (f" with {value[1]}" if value else ""))
        else:
            setting = _settings().get(name, name.replace("-", "_"))
            said = f"{setting}={value[1] if value else named[0].strip() if named else '...'}" if typed else setting
            parts.append(f'{"write " if typed else ""}{said} in "{OTHERS}"')
        end = value.end() if value else end
    return "".join([*parts, text[end:]])
