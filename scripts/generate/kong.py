"""kong/kong.yml: what the manifests' `[[callers]]` and `[gateway]` mean for Kong 3.9.

A manifest's open endpoints are reachable without a key, and nothing else is. Every keyed endpoint is a route of its own
with the groups that its services let in, so what no manifest names is not found at the edge, `/metrics` and `/execute`
included. Paths are anchored expressions: a plain path is a prefix to Kong and would open what only begins like it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from waddlebot.base.manifest import Callers, Manifest, Who

from .text import to_yaml

COLLECTORS, ADMINS, SERVICES, API_USERS, SUPER_ADMINS = "collectors", "admins", "services", "api-users", "super-admins"
PLATFORM_WEBHOOKS = "platform-webhooks"
# Which groups have an account that may pass at the service. Which of them does, the service itself decides.
GROUPS: dict[Who, tuple[str, ...]] = {
    "any": (COLLECTORS, ADMINS, SERVICES, API_USERS),
    "router": (SERVICES,),
    "collectors": (COLLECTORS,),
    "claimers": (COLLECTORS,),
    "claim_readers": (COLLECTORS, ADMINS),
    "event_sources": (COLLECTORS,),
    "services": (SERVICES,),
    "announcers": (SERVICES,),
    "overlays": (SERVICES,),
    "reporters": (COLLECTORS, SERVICES),
    "members": (COLLECTORS, SERVICES),
    "figures": (COLLECTORS, ADMINS),
    "community": (ADMINS, API_USERS),
    "switchers": (ADMINS, SERVICES, API_USERS),
    "owner": (ADMINS,),
    "platform": (COLLECTORS, ADMINS),
    "role_givers": (COLLECTORS, ADMINS, SERVICES),
    "admins": (ADMINS,),
    "operators": (ADMINS,),
    "shoutouts": (COLLECTORS, ADMINS, SERVICES),
    "super_admins": (SUPER_ADMINS,),
    "portal": (SERVICES,),
    "marketplace": (SERVICES,),
    "module_host": (SERVICES,),
}
# Overlay URLs, links and tokens of calls: what cannot be one is not let in.
PARAMETERS = {"token": "[A-Za-z0-9_-]{16,128}", "source_type": "(?:ticker|media|general)"}
PARAMETER = re.compile(r"\{(\w+)\}")
READS, PAGES = ["GET", "HEAD"], ["GET", "HEAD", "POST"]
MAX_BODY_MB, MAX_WEBHOOK_MB = 25, 1
# Twice what docs/sizing.md has of the largest fleet: a platform that is refused stops delivering for good.
WEBHOOKS_PER_MINUTE = 60_000
# A collector speaks for every channel of its platform, up to 50 batches a second of each replica: the limits of the
# specification, which are for callers, would make it deaf for the rest of the hour.
COLLECTORS_PER_MINUTE = 60_000
SOCKET_IDLE_S = 3600
# `{vault://env/…}` is read by Kong at run time from REDIS_PASSWORD; nothing secret stands in the file.
REDIS = {
    "host": "redis",
    "port": 6379,
    "username": "kong",
    "password": "{vault://env/redis-password}",
    "database": 1,
    "timeout": 500,
}
IDENTITY = (
    "X-Consumer-ID",
    "X-Consumer-Custom-ID",
    "X-Consumer-Username",
    "X-Consumer-Groups",
    "X-Credential-Identifier",
    "X-Anonymous-Consumer",
    "X-Authenticated-Groups",
    "X-WaddleBot-Actor",
)
STRIP = (
    "-- Who somebody is comes from the key, never from what they send.\n"
    "for _, name in ipairs({" + ", ".join(map(json.dumps, IDENTITY)) + "}) do\n"
    "  kong.service.request.clear_header(name)\n"
    "end\n"
)
BEARER = (
    "-- Programs written for OpenAI send their key this way.\n"
    'local sent = kong.request.get_header("Authorization")\n'
    'local key = sent and string.match(sent, "^[Bb]earer%s+(%S+)$")\n'
    'if key and not kong.request.get_header("X-API-Key") then\n'
    '  kong.service.request.set_header("X-API-Key", key)\n'
    "end\n"
)


@dataclass(frozen=True, slots=True, order=True)
class _Kind:
    """What the routes of a service differ in: Kong takes each method of a route with each of its paths."""

    why: str
    methods: tuple[str, ...]
    # The more of a path is written out, the sooner Kong tries it: /labels/jobs before /labels/{name}.
    literal: int
    groups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        methods = "-".join(each.lower() for each in self.methods if each != "HEAD")
        return f"{self.why}-{methods}-{self.literal}"


def kong_yml(manifests: Sequence[Manifest]) -> str:
    return to_yaml(
        {
            "_format_version": "3.0",
            "services": [service for manifest in manifests for service in services_of(manifest)],
            "consumers": [{"username": PLATFORM_WEBHOOKS, "acls": [{"group": PLATFORM_WEBHOOKS}]}],
            "plugins": [
                {"name": "pre-function", "config": {"access": [STRIP]}},
                {"name": "request-size-limiting", "config": {"allowed_payload_size": MAX_BODY_MB}},
                {"name": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}},
            ],
        }
    )


def services_of(manifest: Manifest) -> Iterator[dict[str, Any]]:
    kinds: dict[_Kind, list[str]] = defaultdict(list)
    for row in [*manifest.standard_callers, *manifest.callers]:
        for endpoint in row.endpoints:
            if kind := _kind_of(row, endpoint):
                kinds[kind].append(_pattern(endpoint.split(" ")[1]))
    for path in manifest.gateway.pages:
        kinds[_Kind("page", tuple(PAGES), _literal(path))].append(_pattern(path))
    for path in manifest.gateway.folders:
        kinds[_Kind("page", tuple(PAGES), _literal(path))].append(_pattern(path, is_folder=True))
    routes = [_route(manifest, kind, paths) for kind, paths in sorted(kinds.items())]
    yield {
        **_address(manifest.host, manifest.host, manifest.port, manifest.gateway.answer_s),
        "plugins": [_limit(manifest.gateway.per_minute, manifest.gateway.per_hour, by="consumer")],
        "routes": [*routes, *_in_call(manifest), *_other_paths(manifest)],
    }
    if manifest.gateway.sockets:
        assert manifest.hub_port is not None
        host = f"{manifest.host}-hub"
        route = _named(f"{host}-socket", ["GET"], [_pattern(path) for path in manifest.gateway.sockets])
        yield {**_address(f"{manifest.host}-ws", host, manifest.hub_port, SOCKET_IDLE_S), "routes": [route]}


def _kind_of(row: Callers, endpoint: str) -> _Kind | None:
    method, path = endpoint.split(" ")
    methods = tuple(READS) if method == "GET" else (method,)
    if row.open or row.who == "call":
        return _Kind(row.open or "token", methods, _literal(path))
    assert row.who is not None
    # What only the fleet itself asks for has no way in from outside.
    if row.who == "figures" or path.endswith(("/execute", "/execute/batch")):
        return None
    groups = GROUPS[row.who]
    return _Kind("-".join(groups), methods, _literal(path), groups)


def _literal(path: str) -> int:
    return sum(not PARAMETER.fullmatch(part) for part in path.strip("/").split("/"))


def _pattern(path: str, *, is_folder: bool = False) -> str:
    parts = PARAMETER.split(path)
    written = (re.escape(part).replace(r"\-", "-") for part in parts[::2])
    named = (PARAMETERS.get(name, "[^/]+") for name in parts[1::2])
    text = "".join(each for pair in zip(written, [*named, ""], strict=True) for each in pair)
    return f"~{text}(?:/|$)" if is_folder else f"~{text}$"


def _address(name: str, host: str, port: int, answer_s: int) -> dict[str, Any]:
    return {
        "name": name,
        "url": f"http://{host}:{port}",
        "connect_timeout": 3000,
        "read_timeout": answer_s * 1000,
        "write_timeout": answer_s * 1000,
        # A read that timed out would be asked for so many times more.
        "retries": 1,
        "tags": ["waddlebot"],
    }


def _named(name: str, methods: Sequence[str], paths: Sequence[str], *, priority: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "methods": list(methods),
        "paths": sorted(paths),
        "regex_priority": priority,
        "strip_path": False,
        "tags": ["waddlebot"],
    }


def _route(manifest: Manifest, kind: _Kind, paths: Sequence[str]) -> dict[str, Any]:
    route = _named(f"{manifest.host}-{kind.name}", kind.methods, paths, priority=kind.literal)
    if kind.why == "webhook":
        route["plugins"] = list(_webhook_plugins())
    elif kind.groups:
        route["plugins"] = list(_keyed_plugins(manifest, kind.groups))
        if manifest.gateway.takes_bearer:
            route["response_buffering"] = False
    return route


def _keyed_plugins(manifest: Manifest, groups: Sequence[str]) -> Iterator[dict[str, Any]]:
    if manifest.gateway.takes_bearer:
        # The most specific one of a plugin runs, alone.
        yield {"name": "pre-function", "config": {"access": [STRIP, BEARER]}}
    # The service checks the key once more, so it is handed on.
    yield {
        "name": "key-auth",
        "config": {"key_names": [key_header(groups)], "key_in_query": False, "hide_credentials": False},
    }
    yield {"name": "acl", "config": {"allow": list(groups)}}
    if set(groups) == {COLLECTORS}:
        yield _limit(COLLECTORS_PER_MINUTE, None, by="consumer")


def key_header(groups: Sequence[str]) -> str:
    """Where a key is sent: keys are unique over all consumers, so what tells one from another is its groups."""
    return "X-Broker-Key" if SUPER_ADMINS in groups else "X-API-Key"


def _webhook_plugins() -> Iterator[dict[str, Any]]:
    """No platform can send a key: it comes as a consumer of its own, and the service checks its signature."""
    yield {
        "name": "key-auth",
        "config": {"key_names": ["X-API-Key"], "key_in_query": False, "anonymous": PLATFORM_WEBHOOKS},
    }
    yield {"name": "acl", "config": {"allow": [COLLECTORS, PLATFORM_WEBHOOKS]}}
    yield {"name": "request-size-limiting", "config": {"allowed_payload_size": MAX_WEBHOOK_MB}}
    # One address sends for all channels, and a platform that is refused too often stops for good.
    yield _limit(WEBHOOKS_PER_MINUTE, None, by="service")


def _limit(minute: int, hour: int | None, *, by: str) -> dict[str, Any]:
    return {
        "name": "rate-limiting",
        "config": {
            "minute": minute,
            **({"hour": hour} if hour else {}),
            "limit_by": by,
            "policy": "redis",
            "redis": REDIS,
            "fault_tolerant": True,
        },
    }


def _in_call(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The token of a call is no key of Kong's: the service reads it."""
    for endpoint in manifest.gateway.in_call:
        method, path = endpoint.split(" ")
        name = f"{manifest.host}-in-call-{path.strip('/').replace('/', '-')}"
        route = _named(name, [method], [_pattern(path)], priority=_literal(path))
        yield {**route, "headers": {"authorization": ["~*^Bearer "]}}


def _other_paths(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Addresses that the specification gives besides: /health, and webhooks below /webhooks."""
    if manifest.name == "router":
        yield _moved(f"{manifest.host}-health", READS, "/health", f"{manifest.prefix}/health")
    if manifest.kind != "collector":
        return
    for row in manifest.callers:
        for method, path in (endpoint.split(" ") for endpoint in row.endpoints if row.open == "webhook"):
            name = f"{manifest.host}-webhooks{path.replace('/', '-')}"
            moved = _moved(name, [method], f"/webhooks{path}", path)
            yield {**moved, "plugins": [*_webhook_plugins(), *moved["plugins"]]}


def _moved(name: str, methods: Sequence[str], path: str, to: str) -> dict[str, Any]:
    route = _named(name, methods, [_pattern(path)], priority=_literal(path))
    return {**route, "plugins": [{"name": "request-transformer", "config": {"replace": {"uri": to}}}]}
