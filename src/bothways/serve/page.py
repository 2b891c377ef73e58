"""The page of the service: its OpenAPI description as plain HTML, without a script or anything of another host."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ info.title }} service</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1.1rem; margin: 2rem 0 .25rem }
p { margin: .25rem 0 }
table { border-collapse: collapse; margin: .5rem 0 }
td { text-align: left; padding: .15rem 1.5rem .15rem 0; vertical-align: top }
</style></head><body>
<h1>{{ info.title }} service</h1>
<p>{{ info.description }} Version {{ info.version }}. The same as JSON: <a href="openapi.json">openapi.json</a>.</p>
{% for one in routes %}
<h2><code>{{ one.method }} {{ one.path }}</code></h2>
<p>{{ one.told }}</p>
{% if one.body %}<p>Body: {{ linked(one.body) }}</p>{% endif %}
{% if one.parameters %}<table>
{% for row in one.parameters %}<tr><td><code>{{ row[0] }}</code></td><td>{{ row[1] }}</td></tr>
{% endfor %}</table>{% endif %}
<p>Answer {{ one.code }}: {{ linked(one.answer) }}</p>
{% endfor %}
<h1>Forms and answers</h1>
{% for title, told, rows in schemas %}
<h2 id="{{ title }}"><code>{{ title }}</code></h2>
<p>{{ told }}</p>
<table>
{% for row in rows %}<tr><td><code>{{ row[0] }}</code></td><td>{{ row[1] }}</td></tr>
{% endfor %}</table>
{% endfor %}
</body></html>
"""
LINK = """{% macro linked(text) %}{% if text in names %}<a href="#{{ text }}">{{ text }}</a>\
{% else %}{{ text }}{% endif %}{% endmacro %}"""
BOUNDS = {"minimum": "from", "maximum": "to", "maxLength": "letters at most", "maxItems": "at most"}


@cache
def _template() -> Any:
    return Environment(autoescape=True).from_string(LINK + TEMPLATE)


def html_of(described: Mapping[str, Any]) -> str:
    """The page of an OpenAPI description."""
    kept = described["components"]["schemas"]
    schemas = [
        (title, one.get("description", ""), [(key, _said(part)) for key, part in one.get("properties", {}).items()])
        for title, one in kept.items()
        if "ValidationError" not in title
    ]
    routes = [
        _route(method.upper(), path, way) for path, ways in described["paths"].items() for method, way in ways.items()
    ]
    names = [title for title, _, _ in schemas]
    return _template().render(info=described["info"], routes=routes, schemas=schemas, names=names)


def _route(method: str, path: str, way: Mapping[str, Any]) -> dict[str, Any]:
    code, answer = next((code, answer) for code, answer in way["responses"].items() if code < "300")
    parameters = [(one["name"], _said(one["schema"])) for one in way.get("parameters", ())]
    body = _content(way["requestBody"]) if "requestBody" in way else ""
    told = way.get("description") or way["summary"]
    return {"method": method, "path": path, "told": told, "parameters": parameters, "body": body, "code": code,
            "answer": _content(answer)}  # fmt: skip


def _content(part: Mapping[str, Any]) -> str:
    """The name of what is sent, or its media type."""
    for kind, one in part.get("content", {}).items():
        schema = one.get("schema", {})
        inner = schema.get("items", schema)
        return inner["$ref"].rpartition("/")[2] if "$ref" in inner else f"the file of a picture, {kind}"
    return "no JSON: bytes or text"


def _said(schema: Mapping[str, Any]) -> str:
    """Kind, limits, default and description of a value."""
    either = schema.get("anyOf", [schema])
    kinds = [one.get("type") or one.get("$ref", "").rpartition("/")[2] for one in either]
    bounds = {key: value for one in either for key, value in one.items() if key in BOUNDS}
    limits = [f"{word} {bounds[key]}" for key, word in BOUNDS.items() if key in bounds]
    default = [f"default {schema['default']}"] if schema.get("default") not in (None, []) else []
    parts = [schema.get("description", ""), " or ".join(filter(None, kinds)), *limits, *default]
    return ", ".join(filter(None, parts))
