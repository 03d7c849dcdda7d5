"""Kong's Admin API, as far as super-admins need it. Facts are of Kong 3.9.3 with PostgreSQL.

What makes something is sent with an id or a mark of ours, so that it can be sent again, and found again when nobody
knows whether it was heard.
"""

from __future__ import annotations

import base64
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from waddlebot.base.errors import Busy, Conflict, NotConfigured, UpstreamError, UpstreamRefused, UpstreamTimeout
from waddlebot.base.wire import to_json
from waddlebot.web.http import HTTPClient, HTTPResponse

TOLD = ("version", "edition", "hostname", "node_id", "tagline", "lua_version")
TAG = "waddlebot-broker"
PAGE = 1000
# Kong takes no longer time to live than this.
MAX_TTL_S = 100_000_000
HOW_TO_SET_UP = "There is no Kong here: set KONG_ADMIN_URL to have the broker look after one."


class KongUnavailable(Busy):
    """Kong's Admin API does not answer. Try again in a moment."""

    code = "kong_unavailable"


class KongSilent(KongUnavailable):
    """Kong's Admin API did not answer in time, so to ask it once more would take as long again."""


class KongRefused(UpstreamRefused):
    """Kong's Admin API refused the request."""

    code = "kong_refused"


class TakenInKong(Conflict):
    """Kong has something of that name already."""

    code = "taken_in_kong"


def credential_id(key_id: str) -> str:
    """Kong's id of a key, which follows from ours: the same key is the same credential whoever tells Kong of it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"waddlebot-key:{key_id}"))


@dataclass(frozen=True, slots=True)
class Credential:
    """A key as Kong has it. `ttl_s` is what is left of its time, None without an end."""

    id: str
    key: str
    ttl_s: int | None
    consumer_id: str

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Credential:
        return cls(row["id"], row["key"], row.get("ttl"), row["consumer"]["id"])


@dataclass(frozen=True, slots=True)
class Consumer:
    id: str
    username: str
    custom_id: str | None
    tags: tuple[str, ...]

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Consumer:
        return cls(row["id"], row.get("username") or "", row.get("custom_id"), tuple(row.get("tags") or ()))


class KongClient:
    """For any thread; so many calls at once, and who waits longer than a call may take is told to try again."""

    def __init__(self, url: str | None, *, auth: tuple[str, str] | None, timeout_s: float, at_once: int) -> None:
        self._url = url
        self._http = HTTPClient()
        self._timeout_s = timeout_s
        self._gate = threading.BoundedSemaphore(at_once)
        self._headers = {"Accept": "application/json"}
        if auth:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()

    @property
    def is_there(self) -> bool:
        return self._url is not None

    def check_there(self) -> None:
        """Raises: NotConfigured."""
        self._base()

    def node(self) -> dict[str, Any]:
        """Kong of itself; its configuration has passwords in it, masked or not, so nothing of it is passed on."""
        found = self._get("/")
        plugins = found.get("plugins") or {}
        return {
            **{
                name: found.get(name)
                for name in ("version", "edition", "hostname", "node_id", "tagline", "lua_version")
            },
            "plugins": sorted(plugins.get("enabled_in_cluster") or ()),
            "database": (found.get("configuration") or {}).get("database"),
        }

    def status(self, *, within_s: float | None = None) -> dict[str, Any]:
        found = self._get("/status", within_s=within_s)
        return {"database": found.get("database"), "server": found.get("server")}

    def consumers(self, *, size: int, after: str | None = None, tag: str | None = None) -> dict[str, Any]:
        """One page of the consumers, and where the next one begins."""
        query = {"size": size, **({"offset": after} if after else {}), **({"tags": tag} if tag else {})}
        found = self._get(f"/consumers?{urlencode(query)}")
        return {"consumers": _rows(found), "next": found.get("offset")}

    def all_consumers(self, *, tag: str | None = None) -> Iterator[Consumer]:
        return map(Consumer.read, self._all("/consumers", **({"tags": tag} if tag else {})))

    def all_credentials(self) -> Iterator[Credential]:
        return map(Credential.read, self._all("/key-auths"))

    def all_groups(self) -> Iterator[tuple[str, str]]:
        """The consumer's id and the group, of all."""
        return ((row["consumer"]["id"], row["group"]) for row in self._all("/acls"))

    def find_consumer(self, custom_id: str) -> Consumer | None:
        """The one that has our mark."""
        rows = _rows(self._get(f"/consumers?{urlencode({'custom_id': custom_id})}"))
        return Consumer.read(rows[0]) if rows else None

    def ensure_consumer(self, username: str, custom_id: str, *, tag: str = TAG) -> str:
        """The id of the consumer with our mark, made if it is not there. Raises: TakenInKong for a name that is
        another's."""
        body = {"username": username, "custom_id": custom_id, "tags": [tag]}
        try:
            made = self._ask("POST", "/consumers", body)
            return str(made["id"])
        except (TakenInKong, KongUnavailable) as err:
            if isinstance(err, KongSilent):
                raise
            # It may have been made just now, and only the answer was lost.
            found = self.find_consumer(custom_id)
            if found is None:
                raise err
            return found.id

    def remove_consumer(self, consumer_id: str) -> None:
        """With its keys and groups; what is not there is gone."""
        self._ask("DELETE", f"/consumers/{quote(consumer_id, safe='')}")

    def put_key(self, consumer_id: str, key: str, *, key_id: str, ttl_s: int | None = None) -> None:
        body = {"key": key, "tags": [TAG], **({"ttl": min(ttl_s, MAX_TTL_S)} if ttl_s else {})}
        self._ask("PUT", f"/consumers/{consumer_id}/key-auth/{credential_id(key_id)}", body)

    def end_key(self, consumer_id: str, credential: str, *, after_s: int = 0) -> None:
        """End a key, at once or after a while. 0 would be no end to Kong, so it is deleted then."""
        path = f"/consumers/{consumer_id}/key-auth/{credential}"
        if after_s > 0:
            self._ask("PATCH", path, {"ttl": min(after_s, MAX_TTL_S)}, may_be_absent=True)
        else:
            self._ask("DELETE", path, may_be_absent=True)

    def keys_of(self, consumer_id: str) -> list[Credential]:
        return [Credential.read(row) for row in self._all(f"/consumers/{consumer_id}/key-auth")]

    def groups_of(self, consumer_id: str) -> set[str]:
        return {row["group"] for row in self._all(f"/consumers/{consumer_id}/acls")}

    def put_group(self, consumer_id: str, group: str) -> None:
        self._ask("PUT", f"/consumers/{consumer_id}/acls/{group}", {"tags": [TAG]})

    def remove_group(self, consumer_id: str, group: str) -> None:
        self._ask("DELETE", f"/consumers/{consumer_id}/acls/{group}", may_be_absent=True)

    def _all(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every row of a list. `next` is a path from the root of the Admin API, which may be below another one."""
        offset: dict[str, str] = {}
        while True:
            page = self._get(f"{path}?{urlencode({'size': PAGE, **query, **offset})}")
            yield from _rows(page)
            if not page.get("offset"):
                return
            offset = {"offset": page["offset"]}

    def _get(self, path: str, *, within_s: float | None = None) -> dict[str, Any]:
        found = self._ask("GET", path, within_s=within_s)
        return dict(found)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        may_be_absent: bool = False,
        within_s: float | None = None,
    ) -> Any:
        timeout_s = min(self._timeout_s, within_s or self._timeout_s)
        raw = None if body is None else to_json(body).encode()
        headers = self._headers if raw is None else {**self._headers, "Content-Type": "application/json"}
        url = f"{self._base()}{path}"
        with self._turn(timeout_s):
            answer = self._send(
                lambda: self._http.request(
                    # Neither a POST nor anything else is sent twice by itself when a kept connection has died.
                    method,
                    url,
                    body=raw,
                    headers=headers,
                    timeout_s=timeout_s,
                    fresh=method != "GET",
                ),
                timeout_s,
            )
        if answer.status == 404 and may_be_absent:
            return None
        return self._read(method, path, answer)

    def _base(self) -> str:
        if self._url is None:
            raise NotConfigured(HOW_TO_SET_UP)
        return self._url

    @contextmanager
    def _turn(self, timeout_s: float) -> Iterator[None]:
        if not self._gate.acquire(timeout=timeout_s):
            raise KongUnavailable("Too much is being asked of Kong at once. Try again in a moment.")
        try:
            yield
        finally:
            self._gate.release()

    def _send(self, send: Callable[[], HTTPResponse], timeout_s: float) -> HTTPResponse:
        try:
            return send()
        except UpstreamTimeout as err:
            raise KongSilent(f"Kong's Admin API did not answer within {timeout_s:g} s.") from err
        except UpstreamError as err:
            raise KongUnavailable(f"Kong's Admin API is not reached: {err.message}") from err

    def _read(self, method: str, path: str, answer: HTTPResponse) -> Any:
        """What it answered. Raises: KongUnavailable for its own failures and for what is no answer of it; TakenInKong;
        KongRefused."""
        if answer.status == 204:
            return None
        try:
            said = answer.json()
        except UpstreamRefused as err:
            raise KongUnavailable(f"What answers at KONG_ADMIN_URL is no Kong: HTTP {answer.status}.") from err
        if answer.status in (200, 201):
            if not isinstance(said, dict):
                raise KongUnavailable("What answers at KONG_ADMIN_URL is no Kong.")
            return said
        message = str(said.get("message", ""))[:300] if isinstance(said, dict) else ""
        if answer.status == 409:
            # The message has the value that is taken in it, which may be a key.
            raise TakenInKong(f"Kong has that {', '.join(said.get('fields') or ['name'])} already.")
        if answer.status >= 500 or answer.status == 429:
            raise KongUnavailable(f"Kong failed with HTTP {answer.status}: {message}")
        raise KongRefused(f"Kong refused {method} {path.partition('?')[0]} with HTTP {answer.status}: {message}")


def _rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = page.get("data")
    if not isinstance(rows, list):
        raise KongUnavailable("What answers at KONG_ADMIN_URL is no Kong.")
    return rows
