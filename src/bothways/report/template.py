"""Render the templates of the pages, with styles, scripts and Plotly embedded."""

from __future__ import annotations

import base64
import json
import zlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bothways.reading import is_folder, reason
from bothways.report import tables
from bothways.report.charts import TEMPLATE, inert
from bothways.runs.files import check_output, replace_file
from bothways.types import RunError, UserError

HERE = "bothways.report"
TITLED = b"bothways</title>"  # in the head of every page of ours
TEMPLATE_MARK = "{/* report/charts.py */}"  # placeholder in page.js for the template of the charts


@cache
def packed_plotly() -> str:
    """Plotly, deflated, as base64 (5 MB of script in 2 MB), which page.js unpacks."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def templates() -> Environment:
    """The Jinja environment: templates of any package by ``PACKAGE/FILE``, of this folder by ``FILE``."""

    def read(name: str) -> str:
        package, _, file = name.rpartition("/")
        return _read(package or HERE, file)

    environment = Environment(
        loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _read(HERE, "page.js").replace(TEMPLATE_MARK, json.dumps(TEMPLATE))
    environment.filters["held"] = tables.held
    environment.filters["inert"] = inert
    environment.globals |= {"missing": tables.MISSING, "gave_gradient": tables.GAVE_GRADIENT}
    environment.globals |= {"style": Markup(_read(HERE, "page.css")), "script": Markup(script)}
    return environment


def filled(package: str, template: str, *, charted: bool, **values: Any) -> str:
    """Render a template of a package. charted: whether to embed Plotly."""
    plotly = Markup(packed_plotly()) if charted else ""
    return templates().get_template(f"{package}/{template}").render(plotly=plotly, **values)


def check_page(out: Path) -> None:
    """Raise UserError where ``out`` is no place for a page: a folder, a device, or a file that is no page of ours."""
    if is_folder(out):
        raise UserError(f"{out}: is a folder; type the file to write, for example {out / 'report.html'}")
    check_output(out, TITLED)


def write_page(out: Path, page: str) -> None:
    """Write a page whole or not at all. Raises UserError where ``out`` cannot be written."""
    check_page(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(f"{out}: {reason(error)}; choose a place that can be written") from error
    except RunError as error:
        raise UserError(str(error).split(";")[0] + "; choose a place that can be written") from error
