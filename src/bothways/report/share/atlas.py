"""The atlas: one page to browse the pictures of all classes of a model, or of all channels of a layer, from the disk.

The page stands in the run folder and shows the files of ``images``; it asks nobody else. Styles and scripts are in it,
and a content security policy allows these alone, by their digests, whatever stands in a name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from bothways.report.pictures import shown_size
from bothways.report.sections import Run
from bothways.report.share.sheet import Tile, grouped
from bothways.report.tables import GAVE_GRADIENT, significant
from bothways.report.template import filled
from bothways.runs.files import plain

PACKAGE = "bothways.report.share"
AT_LEAST = 10  # targets of a run that is no whole model
HIDDEN = {"file", "alpha", "index", "class", "label", "unfinished"}  # of a record


def has_atlas(run: Run) -> bool:
    """Whether a run is of all classes of its model, or of at least AT_LEAST classes or channels."""
    drawn = run.recipe.get("drawn", {})
    classes, channels = drawn.get("classes") or [], drawn.get("channels") or []
    whole = len(classes) > 1 and len(classes) == run.recipe.get("model", {}).get("classes")
    return whole or max(len(classes), len(channels)) >= AT_LEAST


def atlas(run: Run, tiles: Sequence[Tile]) -> str:
    """The page as HTML. tiles: of the pictures of the run, with what the judges say of each, in the same order."""
    style, script = (resources.files(PACKAGE).joinpath(name).read_text("utf-8") for name in ("atlas.css", "atlas.js"))
    judges = [_judge(chance) for chance in tiles[0].chances] if tiles else []
    entries = [_entry(run, tiles, places) for places in grouped(tiles)]
    return filled(
        PACKAGE,
        "atlas.html.jinja",
        charted=False,
        title=run.label or run.folder.path.resolve().name,
        sentence=run.section.sentence_of(run),
        unfinished=_unfinished(run),
        judges=judges,
        entries=entries,
        what="channels" if run.recipe.get("drawn", {}).get("channels") else "classes",
        kept_style=Markup(style),
        kept_script=Markup(script),
        policy=f"default-src 'none'; img-src 'self' file:; style-src {_digest(style)}; script-src {_digest(script)}",
    )


def _judge(chance: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": str(chance["judge"]), "gave": GAVE_GRADIENT if chance["gave_gradient"] else ""}


def _digest(text: str) -> str:
    """The source of a content security policy for what stands between two tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _unfinished(run: Run) -> str:
    """How many pictures there are so far; "" for a run that is complete."""
    done, of = sum(not record.get("unfinished") for record in run.pictures), run.status.get("of")
    return "" if run.status["state"] == "complete" else f"{done:,}{f' of {of:,}' if of else ''} pictures so far"


def _entry(run: Run, tiles: Sequence[Tile], places: Sequence[int]) -> dict[str, Any]:
    """A class or channel: its pictures, the one that the first judge finds most probable first."""
    ranked = sorted(places, key=lambda place: -max([s for s in _shares(tiles[place])[:1] if s is not None], default=0))
    pictures = [_picture(run.pictures[place], tiles[place]) for place in ranked]
    shares = _shares(tiles[ranked[0]])
    width, height = shown_size(*tiles[ranked[0]].size)
    return {
        "name": tiles[places[0]].name,
        "pictures": json.dumps(plain(pictures), ensure_ascii=False),
        "src": pictures[0]["src"],
        "width": width,
        "height": height,
        "crisp": width > tiles[ranked[0]].size[0],
        "count": len(places),
        "shares": json.dumps(plain(shares)),
        "percent": _percent(shares[0]) if shares else "",
        "number": run.pictures[places[0]].get("label"),
    }


def _shares(tile: Tile) -> list[float | None]:
    return [chance["share"] for chance in tile.chances]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _picture(record: Mapping[str, Any], tile: Tile) -> dict[str, Any]:
    """What the page knows of a picture: its address from the page, its size, and facts by name."""
    facts = [[chance["judge"], _percent(chance["share"]) or "no such class"] for chance in tile.chances]
    kept = {key: value for key, value in record.items() if key not in HIDDEN and isinstance(value, int | float | str)}
    facts += [[key.replace("_", " "), significant(v, 4) if isinstance(v, float) else str(v)] for key, v in kept.items()]
    facts.append(["file", str(record["file"])])
    note = f"not finished, step {record.get('step', 0)}" if record.get("unfinished") else ""
    return {"src": quote(str(record["file"])), "size": tile.size, "facts": facts, "note": note}
