"""GET /docs: the routes and their fields as one page, made from the OpenAPI document.

The page holds all that it needs: the usual viewers load theirs from elsewhere and stay empty where that cannot be
reached. Knows no route by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jinja2
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} {{ version }}: HTTP API</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { padding: .7rem .9rem; border: 1px solid var(--line); border-radius: .5rem; overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .4rem 0; }
summary { padding: .5rem .8rem; cursor: pointer; display: flex; gap: .7rem; flex-wrap: wrap; align-items: baseline; }
summary code { font-weight: 600; } summary span { opacity: .75; }
.method { min-width: 3.6rem; font: 600 12px ui-monospace, monospace; }
.inside { padding: 0 .9rem .8rem; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; opacity: .75; border-top: 0; }
</style></head><body>
<h1>{{ title }} {{ version }}</h1>
<p>The HTTP API of this server. For programs: <a href="{{ openapi_url }}">{{ openapi_url }}</a>.</p>
<pre>curl {{ base_url }}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{"messages": [{"role": "user", "content": "Hello!"}]}'</pre>
{% for group in groups %}
<h2>{{ group.title }}</h2>
{% for route in group.routes %}
<details id="{{ route.method }}-{{ route.path }}">
<summary><span class="method">{{ route.method }}</span><code>{{ route.path }}</code>
<span>{{ route.summary }}</span></summary>
<div class="inside">
{% if route.description %}<p>{{ route.description }}</p>{% endif %}
{% for part in route.parts %}
<div class="scroll"><table><tr><th>{{ part.title }}</th><th>type</th><th>default</th><th></th></tr>
{% for field in part.fields %}<tr><td><code>{{ field.name }}</code></td><td>{{ field.type }}</td>
<td>{% if field.is_required %}required{% else %}<code>{{ field.default }}</code>{% endif %}</td>
<td>{{ field.description }}</td></tr>
{% endfor %}</table></div>
{% endfor %}
</div></details>
{% endfor %}{% endfor %}
<h2>Errors</h2>
<div class="scroll"><table><tr><th>status</th><th></th></tr>
{% for status, meaning in errors %}<tr><td><code>{{ status }}</code></td><td>{{ meaning }}</td></tr>
{% endfor %}</table></div>
</body></html>
"""
_template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One row of a table of fields."""

    name: str
    type: str
    is_required: bool
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Part:
    """A table of fields: a body, or an object inside of one."""

    title: str
    fields: list[FieldLine]


@dataclass(frozen=True, slots=True)
class RouteEntry:
    method: str
    path: str
    summary: str
    description: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    routes: list[RouteEntry]


def add_docs_routes(app: FastAPI) -> None:
    """/docs, and /redoc for those who know that name."""

    async def docs(request: Request) -> Response:
        base_url = str(request.base_url).rstrip("/")
        return HTMLResponse(docs_page(app.openapi(), base_url), headers={"Content-Security-Policy": _POLICY})

    async def redoc(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    app.add_api_route("/redoc", redoc, methods=["GET"], include_in_schema=False)


_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is loaded from anywhere, and nothing runs."""


def docs_page(document: dict[str, Any], base_url: str = "http://localhost:8000") -> str:
    """HTML of an OpenAPI document."""
    entries = [
        _route(method.upper(), path, operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return _template.render(
        title=document["info"]["title"],
        version=document["info"]["version"],
        openapi_url=f"{base_url}/openapi.json",
        base_url=base_url,
        groups=_grouped(entries),
        errors=_errors(document),
    )


def _grouped(entries: list[RouteEntry]) -> list[Group]:
    """What clients use first, then what operators do."""
    api = [entry for entry in entries if entry.path.startswith("/v1/")]
    return [
        Group(title, routes)
        for title, routes in (("API", api), ("Other routes", [e for e in entries if e not in api]))
        if routes
    ]


def _route(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> RouteEntry:
    summary, _, rest = str(operation.get("description") or operation.get("summary") or "").partition("\n\n")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    parts = [] if body is None else list(_parts("field", _resolved(body, document), document))
    return RouteEntry(method, path, summary, rest, parts)


def _parts(title: str, schema: dict[str, Any], document: dict[str, Any]) -> Iterator[Part]:
    """The object's own fields, then those of the objects in them, one level down."""
    lines, inner = [], {}
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        kind = _type(field)
        default = "" if field.get("default") is None else json.dumps(field["default"])
        lines.append(FieldLine(name, kind, name in required, default[:60], field.get("description", "")))
        for ref in _refs(field):
            inner[f"{name}: {ref.rpartition('/')[2]}"] = _resolved({"$ref": ref}, document)
    yield Part(title, sorted(lines, key=lambda line: not line.is_required))
    if title == "field":
        for inner_title, inner_schema in inner.items():
            if inner_schema.get("properties"):
                yield from _parts(inner_title, inner_schema, document)


def _type(field: dict[str, Any]) -> str:
    """In a word or two: "integer", "string | list of string", "StreamOptions"."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    for several in ("anyOf", "oneOf", "allOf"):
        if several in field:
            kinds = dict.fromkeys(_type(one) for one in field[several] if one.get("type") != "null")
            return " | ".join(kinds)
    kind = field.get("type", "any")
    return f"list of {_type(field.get('items', {}))}" if kind == "array" else str(kind)


def _refs(field: dict[str, Any]) -> list[str]:
    """Schemas that a field's value may have."""
    if "$ref" in field:
        return [field["$ref"]]
    inner = [one for several in ("anyOf", "oneOf", "allOf") for one in field.get(several, ())]
    inner += [field["items"]] if isinstance(field.get("items"), dict) else []
    return [ref for one in inner for ref in _refs(one)]


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    ref = schema.get("$ref")
    if ref is None:
        return schema
    found: dict[str, Any] = document["components"]["schemas"].get(ref.rpartition("/")[2], {})
    return found


def _errors(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Those that any route may answer with."""
    operation = next(iter(next(iter(document["paths"].values())).values()))
    return [(status, answer["description"]) for status, answer in operation["responses"].items() if status >= "400"]
