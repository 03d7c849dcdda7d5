"""Print kong.yml for a place: `render.py --hosts 127.0.0.1` for modules on this machine, each on its own port, and
`render.py --url http://127.0.0.1:8000` where one process serves them all.

CORS_ORIGINS, SUPER_ADMIN_GROUP, REDIS_HOST and REDIS_PORT are read from the environment; REDIS_PASSWORD is not, Kong
itself reads it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

KONG_YML = Path(__file__).resolve().parents[1] / "kong.yml"
SUPER_ADMINS = "super-admins"
CORS_HEADERS = ["Authorization", "Content-Type", "X-API-Key", "X-Broker-Key"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", help="one host for all services, each on its own port")
    parser.add_argument("--url", help="one URL for all services but the sockets")
    parser.add_argument("--limits", choices=["redis", "local"], default="redis", help="where limits are counted")
    chosen = parser.parse_args()
    document = yaml.safe_load(KONG_YML.read_text(encoding="utf-8"))
    try:
        render(document, hosts=chosen.hosts, url=chosen.url, limits=chosen.limits, environment=os.environ)
    except ValueError as err:
        print(f"render: {err}", file=sys.stderr)
        return 1
    yaml.safe_dump(document, sys.stdout, sort_keys=False, width=120)
    return 0


def render(
    document: dict[str, Any], *, hosts: str | None, url: str | None, limits: str, environment: Mapping[str, str]
) -> None:
    """Raises: ValueError for origins that would let every site in."""
    for service in document["services"]:
        is_socket = service["name"].endswith("-ws")
        if url and not is_socket:
            service["url"] = url.rstrip("/")
        elif host := hosts or (url and urlsplit(url).hostname):
            service["url"] = f"http://{host}:{urlsplit(service['url']).port}"
    for config in _configs(document, "rate-limiting"):
        config["policy"] = limits
        if limits == "local":
            config.pop("redis", None)
        else:
            config["redis"]["host"] = environment.get("REDIS_HOST") or config["redis"]["host"]
            config["redis"]["port"] = int(environment.get("REDIS_PORT") or config["redis"]["port"])
    group = environment.get("SUPER_ADMIN_GROUP") or SUPER_ADMINS
    for config in _configs(document, "acl"):
        config["allow"] = [group if each == SUPER_ADMINS else each for each in config["allow"]]
    if origins := [each.strip() for each in environment.get("CORS_ORIGINS", "").split(",") if each.strip()]:
        _let_in(document, origins)


def _configs(document: Mapping[str, Any], plugin: str) -> Iterator[dict[str, Any]]:
    """Every place where a plugin is set."""
    owners = [document, *document["services"], *(r for service in document["services"] for r in service["routes"])]
    for owner in owners:
        yield from (each["config"] for each in owner.get("plugins", []) if each["name"] == plugin)


def _let_in(document: dict[str, Any], origins: list[str]) -> None:
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or "*" in origin:
            raise ValueError(f"CORS_ORIGINS: {origin} is not an origin such as https://example.org; * is never allowed")
    config = {"origins": origins, "credentials": True, "headers": CORS_HEADERS, "max_age": 3600}
    document["plugins"].append({"name": "cors", "config": config})
    # Plugins run on routes only, and no other route takes a browser's question beforehand.
    ending = {"name": "request-termination", "config": {"status_code": 405, "message": "Method not allowed"}}
    document["routes"] = [{"name": "cors-preflight", "methods": ["OPTIONS"], "paths": ["/"], "plugins": [ending]}]


if __name__ == "__main__":
    sys.exit(main())
