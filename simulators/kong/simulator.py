"""The server. Its answers are those of a Kong 3.9.3 with PostgreSQL, field for field."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
import uuid
from typing import Any

from aiohttp import web

from ..server import AsyncLoopbackServer

NOT_FOUND = {"message": "Not found"}
FAILED = {"message": "An unexpected error occurred"}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_TTL_S = 100_000_000
BAD_TTL = {
    "options": {"ttl": "must be an integer between 0 and 100000000"},
    "name": "invalid options",
    "code": 11,
    "message": "invalid option (ttl: must be an integer between 0 and 100000000)",
}
BAD_SIZE = {"name": "invalid size", "code": 9, "message": "size must be an integer between 1 and 1000"}
NODE = {
    "version": "3.9.3",
    "edition": "community",
    "hostname": "vm",
    "node_id": "796be9a4-f662-4f8d-8773-ff654cbb0c88",
    "tagline": "Welcome to kong",
    "lua_version": "LuaJIT 2.1.1700206165",
    "pids": {"master": 1, "workers": [2]},
    "timers": {"pending": 1, "running": 269},
    "plugins": {"available_on_server": {"acl": {}}, "enabled_in_cluster": ["key-auth", "acl", "rate-limiting"]},
    "configuration": {"database": "postgres", "pg_password": "******"},
}
TEXT_FIELDS = {"username", "custom_id"}


class KongSimulator(AsyncLoopbackServer):
    """`writes` lists what was changed, oldest first; a status in `failing` is what the next request gets.

    What is in `faults` is what requests get whose method and path begin like that, until it is taken out: a status, or
    `html`, `hang`, `drop` (the connection ends without an answer) and `lost` (it is done, and the connection ends).
    """

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.consumers: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.acls: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.failing: list[int] = []
        self.faults: dict[str, int | str] = {}
        self.authorizations: set[str] = set()

    def settings(self) -> dict[str, str]:
        return {"KONG_ADMIN_URL": self.url}

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._watch])
        app.router.add_get("/", self._node)
        app.router.add_get("/status", self._status)
        app.router.add_get("/consumers", self._list_consumers)
        app.router.add_post("/consumers", self._make_consumer)
        app.router.add_get("/consumers/{consumer}", self._get_consumer)
        app.router.add_put("/consumers/{consumer}", self._put_consumer)
        app.router.add_patch("/consumers/{consumer}", self._patch_consumer)
        app.router.add_delete("/consumers/{consumer}", self._delete_consumer)
        app.router.add_get("/{kind:key-auths|acls}", self._list_all)
        app.router.add_get("/consumers/{consumer}/{kind:key-auth|acls}", self._list)
        app.router.add_post("/consumers/{consumer}/key-auth", self._make_key)
        app.router.add_put("/consumers/{consumer}/key-auth/{id}", self._make_key)
        app.router.add_get("/consumers/{consumer}/key-auth/{id}", self._get_key)
        app.router.add_patch("/consumers/{consumer}/key-auth/{id}", self._patch_key)
        app.router.add_post("/consumers/{consumer}/acls", self._make_acl)
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
        self.authorizations.add(request.headers.get("Authorization", ""))
        fault: int | str | None = self.failing.pop(0) if self.failing else None
        said = f"{request.method} {request.path}"
        fault = fault or next((each for begins, each in self.faults.items() if said.startswith(begins)), None)
        if fault is not None and fault != "lost":
            return await self._fail(request, fault)
        self._forget_ended()
        if request.method != "GET":
            self.writes.append(said)
        try:
            answer: web.StreamResponse = await self._handled(request, handler)
        except web.HTTPNotFound:
            return web.json_response(NOT_FOUND, status=404)
        except web.HTTPMethodNotAllowed:
            return web.json_response({"message": "Method not allowed"}, status=405)
        except json.JSONDecodeError:
            return web.json_response({"message": "Cannot parse JSON body"}, status=400)
        return await self._fail(request, fault) if fault else answer

    async def _handled(self, request: web.Request, handler: Any) -> Any:
        username = request.match_info.get("consumer")
        if username and self._find(username) is None and request.method not in ("PUT", "DELETE", "PATCH"):
            return web.json_response(NOT_FOUND, status=404)
        deeper = request.path.count("/") > 2
        if username and self._find(username) is None and deeper:
            return web.json_response(NOT_FOUND, status=404)
        return await handler(request)

    async def _fail(self, request: web.Request, fault: int | str) -> web.StreamResponse:
        if isinstance(fault, int):
            return web.json_response(FAILED, status=fault)
        if fault == "html":
            return web.Response(text="<html>502 Bad Gateway</html>", content_type="text/html", status=200)
        if fault == "hang":
            await asyncio.sleep(60)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _node(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(NODE)

    async def _status(self, _: web.Request) -> web.StreamResponse:
        server = {"connections_active": 3, "total_requests": 149, "connections_accepted": 147}
        return web.json_response({"database": {"reachable": True}, "server": server, "memory": {}})

    async def _list_consumers(self, request: web.Request) -> web.StreamResponse:
        rows = list(self.consumers.values())
        if custom_id := request.query.get("custom_id"):
            rows = [each for each in rows if each["custom_id"] == custom_id]
        if tags := request.query.get("tags"):
            wanted = set(tags.split(","))
            rows = [each for each in rows if wanted <= set(each["tags"] or ())]
        return self._page(request, rows)

    async def _make_consumer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text())
        if problems := _consumer_problems(body):
            return _violation(problems)
        for field in ("username", "custom_id"):
            if body.get(field) and any(each[field] == body[field] for each in self.consumers.values()):
                return _taken(field, body[field])
        blank = {"username": None, "custom_id": None, "tags": None}
        made = {**blank, **body, **_new(), "updated_at": int(time.time())}
        self.consumers[made["username"] or made["id"]] = made
        return web.json_response(made, status=201)

    async def _get_consumer(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._consumer(request))

    async def _put_consumer(self, request: web.Request) -> web.StreamResponse:
        """What is left out is emptied, as Kong does it."""
        username, body = request.match_info["consumer"], json.loads(await request.text())
        known = self._find(username)
        made = known or _new()
        made.update({"custom_id": None, "tags": None, "username": username, **body, "updated_at": int(time.time())})
        self.consumers[username] = made
        return web.json_response(made)

    async def _patch_consumer(self, request: web.Request) -> web.StreamResponse:
        username = request.match_info["consumer"]
        known = self._find(username)
        if known is None:
            message = f"could not find the entity with '{{username=\"{username}\"}}'"
            fields = {"username": username}
            return web.json_response({"fields": fields, "name": "not found", "code": 6, "message": message}, status=404)
        known.update(json.loads(await request.text()), updated_at=int(time.time()))
        return web.json_response(known)

    async def _delete_consumer(self, request: web.Request) -> web.StreamResponse:
        known = self._find(request.match_info["consumer"])
        if known is not None:
            del self.consumers[known["username"] or known["id"]]
            for rows in (self.keys, self.acls):
                for each in [key for key, row in rows.items() if row["consumer"]["id"] == known["id"]]:
                    del rows[each]
        return web.Response(status=204)

    async def _list_all(self, request: web.Request) -> web.StreamResponse:
        rows = self.keys if request.match_info["kind"] == "key-auths" else self.acls
        return self._page(request, list(rows.values()))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        owner = self._owner(request)
        return self._page(request, [each for each in self._rows(request).values() if each["consumer"] == owner])

    def _page(self, request: web.Request, rows: list[dict[str, Any]]) -> web.StreamResponse:
        size, offset = request.query.get("size", "100"), request.query.get("offset")
        if not size.isdigit() or not 1 <= int(size) <= 1000:
            return web.json_response(BAD_SIZE, status=400)
        start = 0
        if offset:
            ids = [each["id"] for each in rows]
            last = _read_offset(offset)
            if last not in ids:
                return web.json_response(FAILED, status=500)
            start = ids.index(last) + 1
        shown, rest = rows[start : start + int(size)], rows[start + int(size) :]
        data = [_shown(each) for each in shown]
        if not rest:
            return web.json_response({"next": None, "data": data})
        mark = base64.b64encode(json.dumps([shown[-1]["id"]]).encode()).decode().rstrip("=")
        following = f"{request.path}?offset={mark}&size={size}"
        return web.json_response({"offset": mark, "next": following, "data": data})

    async def _make_key(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text() or "{}")
        number = request.match_info.get("id") or str(uuid.uuid4())
        key = body.setdefault("key", secrets.token_hex(16))
        if key == "":
            return _violation({"key": "length must be at least 1"})
        if not _is_ttl(body.get("ttl")):
            return web.json_response(BAD_TTL, status=400)
        if any(each["key"] == key and each["id"] != number for each in self.keys.values()):
            return _taken("key", key)
        self.keys[number] = {"tags": None, "ttl": None, **body, **_new(number), "consumer": self._owner(request)}
        return web.json_response(_shown(self.keys[number]), status=200 if "id" in request.match_info else 201)

    async def _get_key(self, request: web.Request) -> web.StreamResponse:
        row = self._find_key(request)
        return web.json_response(_shown(row)) if row else web.json_response(NOT_FOUND, status=404)

    async def _patch_key(self, request: web.Request) -> web.StreamResponse:
        row, body = self._find_key(request), json.loads(await request.text())
        if row is None:
            return web.json_response(NOT_FOUND, status=404)
        if not _is_ttl(body.get("ttl")):
            return web.json_response(BAD_TTL, status=400)
        row.update(body, created_at=int(time.time()))
        return web.json_response(_shown(row))

    async def _make_acl(self, request: web.Request) -> web.StreamResponse:
        body, owner = json.loads(await request.text()), self._owner(request)
        if any(each["group"] == body["group"] and each["consumer"] == owner for each in self.acls.values()):
            message = f'UNIQUE violation detected on \'{{consumer={{id="{owner["id"]}"}},group="{body["group"]}"}}\''
            fields = {"group": body["group"], "consumer": owner}
            answer = {"fields": fields, "name": "unique constraint violation", "code": 5, "message": message}
            return web.json_response(answer, status=409)
        row = {"tags": None, **body, **_new(), "consumer": owner}
        self.acls[row["id"]] = row
        return web.json_response(row, status=201)

    async def _put_acl(self, request: web.Request) -> web.StreamResponse:
        body, owner, group = json.loads(await request.text() or "{}"), self._owner(request), request.match_info["group"]
        found = [each for each in self.acls.values() if each["group"] == group and each["consumer"] == owner]
        row = found[0] if found else {"tags": None, **body, **_new(), "consumer": owner, "group": group}
        self.acls[row["id"]] = row
        return web.json_response(row)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        """A key by its id or itself, a group by its id or its name."""
        rows, name, owner = self._rows(request), request.match_info["id"], self._owner(request)
        named = "key" if rows is self.keys else "group"
        found = [key for key, row in rows.items() if name in (key, row[named]) and row["consumer"] == owner]
        if not found:
            more = {} if rows is self.keys else {"request_id": secrets.token_hex(16)}
            return web.json_response({**NOT_FOUND, **more}, status=404)
        del rows[found[0]]
        return web.Response(status=204)

    def _find(self, name: str) -> dict[str, Any] | None:
        """By the id where it looks like one: a name of that form cannot be addressed."""
        if UUID.fullmatch(name):
            return next((each for each in self.consumers.values() if each["id"] == name), None)
        return self.consumers.get(name)

    def _consumer(self, request: web.Request) -> dict[str, Any]:
        found = self._find(request.match_info["consumer"])
        assert found is not None
        return found

    def _find_key(self, request: web.Request) -> dict[str, Any] | None:
        name = request.match_info["id"]
        return next((each for each in self.keys.values() if name in (each["id"], each["key"])), None)

    def _forget_ended(self) -> None:
        for number in [key for key, row in self.keys.items() if row["ttl"] and (_left(row) or 0) <= 0]:
            del self.keys[number]

    def _rows(self, request: web.Request) -> dict[str, dict[str, Any]]:
        return self.keys if request.match_info["kind"] == "key-auth" else self.acls

    def _owner(self, request: web.Request) -> dict[str, str]:
        return {"id": self._consumer(request)["id"]}


def _consumer_problems(body: dict[str, Any]) -> dict[str, Any]:
    problems: dict[str, Any] = {}
    for name, value in body.items():
        if name not in (*TEXT_FIELDS, "tags"):
            problems[name] = "unknown field"
        elif name in TEXT_FIELDS and value is not None and not isinstance(value, str):
            problems[name] = "expected a string"
        elif name in TEXT_FIELDS and value == "":
            problems[name] = "length must be at least 1"
    if not body.get("username") and not body.get("custom_id"):
        problems["@entity"] = ["at least one of these fields must be non-empty: 'custom_id', 'username'"]
    return problems


def _violation(problems: dict[str, Any]) -> web.Response:
    said = [each[0] if name == "@entity" else f"{name}: {each}" for name, each in problems.items()]
    count = "schema violation" if len(said) == 1 else f"{len(said)} schema violations"
    message = f"{count} ({'; '.join(sorted(said))})"
    body = {"fields": problems, "name": "schema violation", "code": 2, "message": message}
    return web.json_response(body, status=400)


def _is_ttl(value: Any) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value <= MAX_TTL_S)


def _read_offset(text: str) -> str:
    try:
        return str(json.loads(base64.b64decode(text + "=" * (-len(text) % 4)))[0])
    except (ValueError, LookupError):
        return ""


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
