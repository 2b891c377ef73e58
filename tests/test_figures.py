"""No figure of the docs is stray: a section that has one names the command that gave it, and the date.

A section is what stands under a heading ``##`` (its ``###`` too), or before the first one. It has a figure if its text,
code and links left out, has a decimal number, a share in percent, a ratio in words or a number with a unit. Such a
section holds a command and a date (2026-11-29, or 2026-11), or ``<!-- made by PROGRAM -->`` where a program writes it.
Numbers that were not measured, such as settings and sizes, stand in the sections of ``SETTINGS``, without an interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FIGURE = re.compile(
    r"(?<![\w.,/-])[−-]?(?:\d*\.\d+|\d+)(?:\s?%|\s(?:s|ms|min|dB|MiB|points|times|seconds|minutes|hours)\b)"
    r"|(?<![\w.,/-])[−-]?\d*\.\d+(?!\w|\.\d|-\w)"
    r"|(?<![\w.,/-])\d+ of (?:the )?\d+\b"
)
INTERVAL = re.compile(r"\([−+-]?\d*\.?\d+(?:\s?%)? ?(?:to|–|-) ?[−+-]?\d*\.?\d+(?:\s?%)?\)|±")
COMMAND = re.compile(r"^\s*(?:OMP_\S+ |PYTHONPATH=\S+ |torchrun .* -m )*(bothways \w|make \w|python (\S+\.py))")
DATE = re.compile(r"\b2026-\d\d(-\d\d)?\b")
MADE = re.compile(r"<!-- made by (\S+\.py) -->")
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_FIGURES = re.compile(  # versions, papers, places in a paper, links, words of HTML
    r"https?://\S+|\]\([^)]*\)|<[^>]*>|arXiv \d+\.\d+"
    r"|\b(?:C?Python|torch|lucent|Horama|Apache|BSD|GPL|SqueezeNet|[Vv]ersion)[- ]v?\d+(?:\.\d+)+"
    r"|\b95 % (?:confidence )?intervals?|\(95 %\)|(?:at|Wilson's|Student's|Wilson,) 95 %"
)
SETTINGS = {
    ("docs/addresses.md", "Flows"),
    ("docs/audit.md", ""),
    ("docs/classifier.md", ""),
    ("docs/evaluation.md", "Corruptions"),
    ("docs/features.md", "The files"),
    ("docs/features.md", "One walk for several depths"),
    ("docs/features.md", "The probes"),
    ("docs/flows.md", "What a pretraining is"),
    ("docs/flows.md", "A training of your own"),
    ("docs/licences.md", ""),
    ("docs/models.md", "The steps"),
    ("docs/plan.md", "How it is counted"),
    ("docs/serve.md", "Limits"),
    ("docs/studio.md", "How it works"),
    ("docs/tasks.md", "What each maximises"),
    ("docs/tasks.md", "Without a class at the size of photographs"),
    ("docs/tasks.md", "Canvases and views"),
}


def sections(text: str) -> Iterator[tuple[str, str]]:
    """(heading, text) of a page; "" is the heading of what stands before the first ``##``."""
    blocks: list[str] = []

    def keep(match: re.Match[str]) -> str:
        blocks.append(match[0])
        return f"\0{len(blocks) - 1}\0"

    parts = re.split(r"^## (.+)$", FENCE.sub(keep, text), flags=re.MULTILINE)
    for heading, body in zip(["", *parts[1::2]], [parts[0], *parts[2::2]], strict=True):
        yield heading, re.sub(r"\0(\d+)\0", lambda match: blocks[int(match[1])], body)


def figures(section: str) -> list[str]:
    """The figures of a section's text, code and links left out."""
    text = re.sub(r"`[^`]*`", " ", FENCE.sub(" ", section))
    text = re.sub(r"^    .*$", " ", text, flags=re.MULTILINE)
    return [found[0].strip() for found in FIGURE.finditer(NOT_FIGURES.sub(" ", text))]


def commands(section: str) -> list[str]:
    """What can be typed, of its blocks, of what is indented and of code in a sentence."""
    lines = [line for block in FENCE.findall(section) for line in block.splitlines()]
    rest = FENCE.sub("", section)
    lines += re.findall(r"^    (.+)$", rest, re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", rest)]
    return [line for line in lines if COMMAND.match(line)]


def faults(section: str) -> list[str]:
    """What a section with figures lacks; [] for nothing."""
    if not figures(section):
        return []
    made = MADE.search(section)
    if made:
        return [] if (ROOT / made[1]).is_file() else [f"{made[1]} is not there"]
    typed = commands(section)
    missing = [] if typed else ["no command"]
    programs = [found[2] for line in typed if (found := COMMAND.match(line)) and found[2]]
    missing += [f"{name} is not there" for name in programs if not (ROOT / name).is_file()]
    return missing + ([] if DATE.search(section) else ["no date"])


# ---- what is found in a text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stray",
    [
        "It reads 93.5 % of the pictures.",
        "| `icons` | .987 (.966 to .995) |",
        "The slope is −2.69.",
        "It takes 26 s a picture.",
        "It is 3 times as fast.",
        "A judge recognises 19 of 20.",
        "In training 95 % of the cats had a square.",
        "By `bothways generate MODEL --class frog` it is .5 dB better.",
        "On 2026-11-29 it was 0.25, by `icons`.",
        "By `python benchmarks/gone.py`, 2026-11-29: .81",
        "<!-- made by benchmarks/gone.py -->\n\nIt is .81.",
        "```sh\nbothways evaluate MODEL   # 0.81\n```\n\nSo it reads .81.",
    ],
)
def test_a_stray_figure_is_found(stray: str) -> None:
    assert faults(stray)


@pytest.mark.parametrize(
    "text",
    [
        "Three networks, of 32 x 32 pixels, 1,000 classes and 50 pictures a class, in Python 3.11.",
        "Type `--set terms.boundary.weight=0.5`; see [the table](measured.md#at-0.5) and arXiv 2412.01787.",
        "Each with its 95 % interval (Wilson).",
        "By `python benchmarks/icons.py`, 2026-11-22: .987 (.966 to .995)",
        "```sh\nbothways evaluate MODEL --data DATA\n```\n\nIt reads 93.5 %, 2026-11.",
        "<!-- made by benchmarks/torture/kills.py -->\n\n| kills | 0.5 |",
    ],
)
def test_what_is_no_figure_or_has_its_source_is_no_fault(text: str) -> None:
    assert faults(text) == []


def test_sections_are_split_at_headings_and_not_within_code() -> None:
    text = "# Page\n\nfirst .1\n\n## One\n\n```sh\n## no heading\nmake docs\n```\n\n### Below\n\n.2\n\n## Two\n.3\n"
    found = dict(sections(text))
    assert list(found) == ["", "One", "Two"]
    assert commands(found["One"]) == ["make docs"]
    assert [figures(part) for part in found.values()] == [[".1"], [".2"], [".3"]]


# ---- the pages -----------------------------------------------------------------------------------------------------


ALL = [
    (page.relative_to(ROOT).as_posix(), heading, text)
    for page in PAGES
    for heading, text in sections(page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "heading", "text"), ALL, ids=[f"{page}: {heading}" for page, heading, _ in ALL])
def test_a_section_with_figures_names_its_command_and_date(page: str, heading: str, text: str) -> None:
    if (page, heading) not in SETTINGS:
        assert not faults(text), f"{page}, {heading!r}: {faults(text)}, for {figures(text)[:8]}"


def test_most_of_the_figures_are_seen() -> None:
    """So that a pattern that finds nothing does not pass."""
    of = {page: sum(len(figures(text)) for name, _, text in ALL if name == page) for page, _, _ in ALL}
    assert all(of[f"docs/{page}.md"] > 100 for page in ("measured", "scorecards", "prg", "flows", "inpainting"))
    assert sum(bool(figures(text)) for *_, text in ALL) > 50


def test_sections_of_settings_are_there_have_numbers_and_no_measured_interval() -> None:
    """So that no section is left out for nothing, and none that was measured."""
    known = {(page, heading): text for page, heading, text in ALL}
    for place in SETTINGS:
        assert place in known, f"{place} is not there any more: take it out of SETTINGS"
        assert faults(known[place]), f"{place} needs no exception: take it out of SETTINGS"
        assert not INTERVAL.search(known[place]), f"{place} has an interval, so it was measured"
