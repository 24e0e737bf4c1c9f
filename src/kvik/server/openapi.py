"""What /openapi.json says beyond the routes: bodies, errors, parameters of paths.

Handlers read and write bytes themselves, so FastAPI must be told what is in them.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from kvik.server.validation import RequestModel

_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "integer", "description": "the status again"},
            },
            "required": ["message", "type"],
        }
    },
    "required": ["error"],
}
_ERRORS = {
    400: "something is wrong with the request; `param` names it",
    401: "the key is missing or wrong",
    403: "the key is right, and may not do this",
    404: "there is no such model, or no such thing",
    405: "the path is right, the method is not",
    408: "the body did not come in time",
    413: "the body is too large",
    429: "as many requests are open as are allowed; see Retry-After",
    500: "the server failed; its log says why",
    503: "not now; see Retry-After",
}
"""Statuses that any route may answer with, and no others are."""


def request_body(model: type[RequestModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose JSON body is a `model`."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}, "x-body-model": model}
    if "stream" in model.model_fields:
        stream = {"schema": {"type": "string", "description": "server-sent events, with stream=true"}}
        extra["responses"] = {"200": {"content": {"text/event-stream": stream}}}
    return extra


def describe_routes(app: FastAPI) -> None:
    """Let `app` put into its OpenAPI document what FastAPI cannot see."""
    models = _pop_models(app)
    plain_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain_openapi()
            _, definitions = models_json_schema([(m, "validation") for m in models], ref_template=_REF)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(definitions.get("$defs", {}) | {"Error": _ERROR})
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _describe(path, operation)
        schema: dict[str, Any] = plain_openapi()
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _pop_models(app: FastAPI) -> list[type[RequestModel]]:
    extras = [getattr(route, "openapi_extra", None) or {} for route in app.routes]
    return [extra.pop("x-body-model") for extra in extras if "x-body-model" in extra]


def _describe(path: str, operation: dict[str, Any]) -> None:
    """Parameters in the path, and the errors of all routes."""
    named = {parameter["name"] for parameter in operation.get("parameters", ())}
    for name in re.findall(r"{(\w+)}", path):
        if name not in named:
            parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            operation.setdefault("parameters", []).append(parameter)
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    for status, meaning in _ERRORS.items():
        operation["responses"].setdefault(str(status), {"description": meaning, "content": content})
