"""The server. Its answers are those of a Kong 3.9.3 with PostgreSQL, field for field."""

from __future__ import annotations

import time
import uuid
from typing import Any

from aiohttp import web

from ..server import AsyncLoopbackServer

NOT_FOUND = {"message": "Not found"}


class KongSimulator(AsyncLoopbackServer):
    """`writes` lists what was changed, oldest first; a status in `failing` is what the next request gets."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.consumers: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.acls: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.failing: list[int] = []

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._watch])
        app.router.add_get("/status", self._status)
        app.router.add_post("/consumers", self._make_consumer)
        app.router.add_get("/consumers/{consumer}", self._get_consumer)
        app.router.add_delete("/consumers/{consumer}", self._delete_consumer)
        app.router.add_get("/consumers/{consumer}/{kind:key-auth|acls}", self._list)
        app.router.add_put("/consumers/{consumer}/key-auth/{id}", self._put_key)
        app.router.add_patch("/consumers/{consumer}/key-auth/{id}", self._patch_key)
        app.router.add_put("/consumers/{consumer}/acls/{group}", self._put_acl)
        app.router.add_delete("/consumers/{consumer}/{kind:key-auth|acls}/{id}", self._delete)
        return app

    def keys_of(self, username: str) -> dict[str, Any]:
        """The time to live, or None, of each key of a consumer."""
        number = self.consumers[username]["id"]
        return {each["key"]: _left(each) for each in self.keys.values() if each["consumer"]["id"] == number}

    def groups_of(self, username: str) -> set[str]:
        number = self.consumers[username]["id"]
        return {each["group"] for each in self.acls.values() if each["consumer"]["id"] == number}

    @web.middleware
    async def _watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.failing:
            status = self.failing.pop(0)
            return web.json_response({"message": "An unexpected error occurred"}, status=status)
        if request.method != "GET":
            self.writes.append(f"{request.method} {request.path}")
        username = request.match_info.get("consumer")
        if username and username not in self.consumers:
            return web.json_response(NOT_FOUND, status=404)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _status(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"database": {"reachable": True}})

    async def _make_consumer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["username"] in self.consumers:
            return _taken("username", body["username"])
        made = {"custom_id": None, "tags": None, **body, **_new(), "updated_at": int(time.time())}
        self.consumers[body["username"]] = made
        return web.json_response(made, status=201)

    async def _get_consumer(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.consumers[request.match_info["consumer"]])

    async def _delete_consumer(self, request: web.Request) -> web.StreamResponse:
        number = self.consumers.pop(request.match_info["consumer"])["id"]
        for rows in (self.keys, self.acls):
            for each in [key for key, row in rows.items() if row["consumer"]["id"] == number]:
                del rows[each]
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        owner = self._owner(request)
        data = [each for each in self._rows(request).values() if each["consumer"] == owner]
        return web.json_response({"next": None, "data": [_shown(each) for each in data]})

    async def _put_key(self, request: web.Request) -> web.StreamResponse:
        body, number = await request.json(), request.match_info["id"]
        if any(each["key"] == body["key"] and each["id"] != number for each in self.keys.values()):
            return _taken("key", body["key"])
        self.keys[number] = {"tags": None, "ttl": None, **body, **_new(number), "consumer": self._owner(request)}
        return web.json_response(_shown(self.keys[number]))

    async def _patch_key(self, request: web.Request) -> web.StreamResponse:
        row, body = self.keys.get(request.match_info["id"]), await request.json()
        if row is None:
            return web.json_response(NOT_FOUND, status=404)
        row.update(body, created_at=int(time.time()))
        return web.json_response(_shown(row))

    async def _put_acl(self, request: web.Request) -> web.StreamResponse:
        body, owner, group = await request.json(), self._owner(request), request.match_info["group"]
        found = [each for each in self.acls.values() if each["group"] == group and each["consumer"] == owner]
        row = found[0] if found else {"tags": None, **body, **_new(), "consumer": owner, "group": group}
        self.acls[row["id"]] = row
        return web.json_response(row)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if self._rows(request).pop(request.match_info["id"], None) is None:
            return web.json_response(NOT_FOUND, status=404)
        return web.Response(status=204)

    def _rows(self, request: web.Request) -> dict[str, dict[str, Any]]:
        return self.keys if request.match_info["kind"] == "key-auth" else self.acls

    def _owner(self, request: web.Request) -> dict[str, str]:
        return {"id": self.consumers[request.match_info["consumer"]]["id"]}


def _new(number: str | None = None) -> dict[str, Any]:
    return {"id": number or str(uuid.uuid4()), "created_at": int(time.time())}


def _left(row: dict[str, Any]) -> int | None:
    """Kong reads a time to live back as what is left of it; 0 is none."""
    return row["created_at"] + row["ttl"] - int(time.time()) if row["ttl"] else None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "ttl": _left(row)} if "ttl" in row else row


def _taken(field: str, value: str) -> web.Response:
    message = f"UNIQUE violation detected on '{{{field}=\"{value}\"}}'"
    body = {"fields": {field: value}, "name": "unique constraint violation", "code": 5, "message": message}
    return web.json_response(body, status=409)
