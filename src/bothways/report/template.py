"""The templates of the pages, filled; style, script and Plotly stand inside, and no request leaves."""

from __future__ import annotations

import base64
import zlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bothways.report import tables


@cache
def packed_plotly() -> str:
    """Plotly, deflated, as base64: 5 MB of script in 2, which the page's own script unpacks."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


@cache
def _part(name: str) -> str:
    return resources.files("bothways.report").joinpath(name).read_text(encoding="utf-8")


@cache
def templates() -> Environment:
    """The templates of this folder, with style and script."""
    loader = FunctionLoader(_part)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"missing": tables.MISSING, "gave_gradient": tables.GAVE_GRADIENT}
    environment.globals |= {"style": Markup(_part("page.css")), "script": Markup(_part("page.js"))}
    return environment


def filled(template: str, *, charted: bool, **values: Any) -> str:
    """A template of this folder with its values. charted: whether it has charts."""
    plotly = Markup(packed_plotly()) if charted else ""
    return templates().get_template(template).render(plotly=plotly, **values)
