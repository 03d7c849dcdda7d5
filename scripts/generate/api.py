"""API.md of a module: its endpoints, from what they declare."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from waddlebot.base.manifest import Manifest, load_part
from waddlebot.web.endpoint import Endpoint
from waddlebot.web.openapi import openapi

# The modules that have an API.md, and the controllers in it.
DOCUMENTED = {"kong_admin_broker": ("admin", "gateway", "programs", "verification")}
NOTE = "<!-- Made of the endpoints by scripts/check_fleet.py --fix; change those. -->\n"


def api_files(manifests: Sequence[Manifest]) -> dict[str, str]:
    return {
        f"{each.package}/API.md": api_md(each, DOCUMENTED[each.package])
        for each in manifests
        if each.package in DOCUMENTED
    }


def api_md(manifest: Manifest, controllers: tuple[str, ...]) -> str:
    endpoints = [each for name in controllers for each in _endpoints(manifest.package, name)]
    document = openapi(manifest.title, manifest.version, endpoints)
    schemas = document["components"]["schemas"]
    intro = (sys.modules[f"{manifest.package}.controllers.doors"].__doc__ or "").strip().replace("\n", " ")
    lines = [NOTE, f"# {manifest.title}: API\n", f"{intro}\n"]
    lines.append(
        f"Port {manifest.port}. Answers are JSON with `success`; an error is `{{success: false, error: {{code, message,"
        " details}}`. Lists take `limit` and `offset` and tell `total`. The same document for programs is"
        f" `{manifest.prefix}/openapi.json`.\n"
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _operation(f"{method.upper()} {path}", operation, schemas)
    return "\n".join(lines)


def _endpoints(package: str, controller: str) -> Iterator[Endpoint]:
    for each in vars(load_part(package, f"controllers.{controller}")).values():
        if isinstance(declared := getattr(each, "__endpoint__", None), Endpoint):
            yield declared


def _operation(name: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield f"## `{name}`\n"
    yield f"{' '.join(operation['description'].split())} Needs {operation['x-caller']}.\n"
    rows = [
        _row(each["name"], each["schema"], each["in"], is_needed=each["required"]) for each in operation["parameters"]
    ]
    if body := operation.get("requestBody"):
        schema = next(iter(body["content"].values()))["schema"]
        for each in [schema, *schema.get("anyOf", ())]:
            found = schemas.get(each.get("$ref", "").rpartition("/")[2], each)
            needed = found.get("required", ())
            rows += [_row(n, kind, "body", is_needed=n in needed) for n, kind in found.get("properties", {}).items()]
    if rows:
        yield "\n".join(["| | | |", "|---|---|---|", *rows]) + "\n"


def _row(name: str, schema: dict[str, Any], where: str, *, is_needed: bool) -> str:
    kinds = [_kind(each) for each in schema.get("anyOf", [schema])]
    default = schema.get("default")
    said = [where, "needed" if is_needed else "", f"default {default}" if default not in (None, "") else ""]
    return f"| `{name}` | {', '.join(filter(None, said))} | {' or '.join(kinds)} |"


def _kind(schema: dict[str, Any]) -> str:
    if choices := schema.get("enum"):
        return " or ".join(f"`{each}`" for each in choices)
    limits = {"minLength": "at least {} characters", "maxLength": "at most {} characters", "minimum": "from {}"}
    limits |= {"maximum": "to {}", "exclusiveMaximum": "below {}"}
    said = [text.format(schema[name]) for name, text in limits.items() if name in schema]
    return " ".join([schema.get("format") or schema.get("type", "any"), *said])
