"""The schemas of request bodies in /openapi.json. Handlers read bodies themselves, so FastAPI must be told."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose JSON body is a `model`."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    return {"requestBody": {"required": True, "content": content}, "x-body-model": model}


def describe_bodies(app: FastAPI) -> None:
    """Let `app` put the models of its routes among the schemas of its OpenAPI document."""
    models = _pop_models(app)
    plain_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain_openapi()
            _, definitions = models_json_schema([(m, "validation") for m in models], ref_template=_REF)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(definitions.get("$defs", {}))
        schema: dict[str, Any] = plain_openapi()
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _pop_models(app: FastAPI) -> list[type[BaseModel]]:
    extras = [getattr(route, "openapi_extra", None) or {} for route in app.routes]
    return [extra.pop("x-body-model") for extra in extras if "x-body-model" in extra]
