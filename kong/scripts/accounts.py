"""Make the fleet's consumers, keys and groups at the gateway, as `waddlebot.fleet.containers prepare` makes accounts.

Keys come from the same environment. Run it at every start: it changes what differs and nothing else. To rotate, put
the new key into the environment and run it with `--overlap 86400`: the old one ends after so many seconds, and at once
with 0.
What the broker made is not touched.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any

from waddlebot.base.errors import ConfigError
from waddlebot.base.manifest import all_manifests
from waddlebot.fleet.accounts import FleetAccount, fleet_accounts
from waddlebot.fleet.containers import keys_in

OURS = "waddlebot-fleet"
TIMEOUT_S = 10
PAUSE_S = 0.5


class AdminAPI:
    """Kong's Admin API, as far as accounts need it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.url = (environment.get("KONG_ADMIN_URL") or "http://kong:8001").rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        name, password = environment.get("KONG_ADMIN_USERNAME"), environment.get("KONG_ADMIN_PASSWORD")
        if name and password:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer, or None where there is nothing. Raises: ConfigError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as err:
            if err.code == 404:
                return None
            raise ConfigError(f"Kong refused {method} {path} with {err.code}: {err.read()[:300]!r}") from err
        except (OSError, ValueError) as err:
            raise ConfigError(f"Kong's Admin API at {self.url} does not answer: {err}") from err

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                return self.ask("GET", "/status")
            except ConfigError:
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE_S)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overlap", type=int, default=0, metavar="SECONDS", help="how long replaced keys still open")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="how long Kong may take to answer")
    chosen = parser.parse_args(arguments)
    try:
        manifests = all_manifests()
        keys = keys_in(os.environ, manifests)
        kong = AdminAPI(os.environ)
        kong.wait(chosen.wait)
        for account in fleet_accounts(manifests):
            if changes := ensure_consumer(kong, account, keys[account.name], overlap_s=chosen.overlap):
                print(f"{account.name}: {', '.join(changes)}")
    except ConfigError as err:
        print(f"accounts: {err.message}", file=sys.stderr)
        return 1
    return 0


def ensure_consumer(kong: AdminAPI, account: FleetAccount, key: str, *, overlap_s: int) -> list[str]:
    """Make one consumer what its account is. Returns what was changed."""
    path, changes = f"/consumers/{account.name}", []
    if kong.ask("GET", path) is None:
        kong.ask("POST", "/consumers", {"username": account.name, "tags": [OURS]})
        changes.append("made")
    # Groups first: a key without them opens nothing, groups without a key neither.
    has = {each["group"]: each["id"] for each in kong.ask("GET", f"{path}/acls?size=1000")["data"]}
    for group in sorted(set(account.groups) - set(has)):
        kong.ask("PUT", f"{path}/acls/{group}", {"tags": [OURS]})
        changes.append(f"added to {group}")
    for group in sorted(set(has) - set(account.groups)):
        kong.ask("DELETE", f"{path}/acls/{has[group]}")
        changes.append(f"removed from {group}")
    return changes + _ensure_key(kong, path, key, overlap_s=overlap_s)


def _ensure_key(kong: AdminAPI, path: str, key: str, *, overlap_s: int) -> list[str]:
    changes = []
    known = kong.ask("GET", f"{path}/key-auth?size=1000")["data"]
    if not any(each["key"] == key and each["ttl"] is None for each in known):
        # Its id follows from the key, so that a second run means the same one.
        number = uuid.uuid5(uuid.NAMESPACE_URL, f"{OURS}:{key}")
        kong.ask("PUT", f"{path}/key-auth/{number}", {"key": key, "tags": [OURS]})
        changes.append("key set")
    for each in known:
        if each["key"] == key or (each["ttl"] is not None and each["ttl"] <= overlap_s):
            continue
        if overlap_s:
            kong.ask("PATCH", f"{path}/key-auth/{each['id']}", {"ttl": overlap_s})
            changes.append(f"old key ends in {overlap_s} s")
        else:
            kong.ask("DELETE", f"{path}/key-auth/{each['id']}")
            changes.append("old key ended")
    return changes


if __name__ == "__main__":
    sys.exit(main())
