"""A module's OpenAPI 3.1 document, from the types that its endpoints declare."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

from .endpoint import JSON_TYPE, Endpoint, KeyHeader, Raw
from .stream import Stream

PARAMETER = re.compile(r"<(\w+)(?::[^>]+)?>")
ERROR = {
    "type": "object",
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "details": {}},
        },
        "session_id": {"type": "string"},
    },
}


SECURITY_SCHEMES: dict[KeyHeader, dict[str, str]] = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "X-Broker-Key": {"type": "apiKey", "in": "header", "name": "X-Broker-Key"},
    "Authorization": {"type": "http", "scheme": "bearer"},
}


def openapi(title: str, version: str, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document as JSON. `x-caller` says in words whose key an operation asks for, `x-area` and `x-right` what a
    person in the portal needs."""
    schemas = _Schemas()
    paths: dict[str, Any] = {}
    for each in endpoints:
        path = PARAMETER.sub(r"{\1}", each.path)
        for method in each.method.lower().split():
            paths.setdefault(path, {})[method] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas.found, "Error": ERROR},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


class _Schemas:
    """Collects the schemas that operations refer to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        made = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        self.found.update(made.pop("$defs", {}))
        return made


def _operation(each: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done."}
    # What takes many requests at once answers each of them by itself.
    returns = Raw if each.takes_many else typing.get_type_hints(each.function).get("return")
    if each.is_stream:
        done["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    elif each.answers != JSON_TYPE:
        done["content"] = {each.answers: {}}
    elif Stream in typing.get_args(returns):
        done["content"] = {JSON_TYPE: {}, "text/event-stream": {"schema": {"type": "string"}}}
    elif returns not in (None, Raw, dict, type(None)):
        done["content"] = {JSON_TYPE: {"schema": schemas.of(returns)}}
    operation: dict[str, Any] = {
        "operationId": f"{each.function.__module__.split('.')[-1]}_{each.function.__name__}",
        "summary": each.summary,
        "description": inspect.getdoc(each.function) or "",
        "parameters": _parameters(each, schemas),
        "responses": {
            str(each.status): done,
            "default": {
                "description": "An error.",
                "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
        "security": [] if each.caller.open or each.answers != JSON_TYPE else [{header: []} for header in each.key_in],
        "x-caller": each.caller.who,
        "x-caller-name": each.caller.name,
    }
    if each.caller.portal and each.area is not None:
        operation |= {"x-area": each.area, "x-right": each.right}
    if each.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": schemas.of(each.body)}}}
    return operation


def _parameters(each: Endpoint, schemas: _Schemas) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in PARAMETER.findall(each.path)
    ]
    properties = schemas.of(each.query).get("properties", {}) if each.query is not None else {}
    in_query = [{"name": name, "in": "query", "required": False, "schema": kind} for name, kind in properties.items()]
    return in_path + in_query
