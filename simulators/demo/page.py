"""The page's server: on loopback, for this machine's own browser only."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientSession, web
from waddlebot.web.static import LOOK, TYPES

from . import extras
from .fleet_side import FleetSide
from .guard import for_this_machine
from .platforms import Person, Platform
from .timeline import Line, Timeline

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": (STATIC / "index.html", "text/html; charset=utf-8"),
    "/demo.css": (STATIC / "demo.css", TYPES[".css"]),
    "/demo.js": (STATIC / "demo.js", TYPES[".js"]),
    "/waddlebot.css": (LOOK / "waddlebot.css", TYPES[".css"]),
    "/inter.woff2": (LOOK / "inter.woff2", TYPES[".woff2"]),
    "/icon.svg": (LOOK / "icon.svg", TYPES[".svg"]),
}
MAX_TEXT_CHARS, MAX_NAME_CHARS = 2000, 25
SIGN_OF_LIFE_S = 15.0
LISTEN_AGAIN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    def __init__(self, platforms: Sequence[Platform], timeline: Timeline, fleet: FleetSide, *, port: int) -> None:
        self._platforms = {each.name: each for each in platforms}
        self._timeline = timeline
        self._fleet = fleet
        self._port = port

    async def serve(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set."""
        self._timeline.run_on(asyncio.get_running_loop())
        app = web.Application(middlewares=[for_this_machine, only_json])
        app.add_routes(
            [
                *(web.get(path, self._file) for path in FILES),
                web.get("/healthz", self._healthz),
                web.get("/state", self._state),
                web.get("/stream", self._stream),
                web.post("/say", self._say),
                web.post("/happen", self._happen),
                web.post(extras.PATH, self._answer_extras),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        async with ClientSession(read_bufsize=2**20) as session:
            loops = [asyncio.create_task(self._listen(each, session)) for each in self._platforms.values()]
            loops.append(asyncio.create_task(self._fleet.run(session)))
            await stopping.wait()
            for each in loops:
                each.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
        self._timeline.close()
        await runner.cleanup()

    async def _listen(self, platform: Platform, session: ClientSession) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError):
                await platform.listen(session)
            await asyncio.sleep(LISTEN_AGAIN_S)

    # Looking

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path, content_type = FILES[request.path]
        base = urlsplit(self._fleet.overlays_url)
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
            f" connect-src 'self'; frame-src {base.scheme}://{base.netloc}; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        headers = {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return web.Response(body=path.read_bytes(), headers={**headers, "Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"success": True})

    async def _state(self, _: web.Request) -> web.StreamResponse:
        """What there is to choose from, and the overlays once the fleet is there."""
        return web.json_response(
            {
                "overlays": self._fleet.overlays,
                "platforms": [
                    {
                        "name": each.name,
                        "title": each.title,
                        "place": each.place,
                        "levels": [asdict(choice) for choice in each.levels],
                        "events": [asdict(choice) for choice in each.events],
                    }
                    for each in self._platforms.values()
                ],
            },
            headers={"Cache-Control": "no-store"},
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The chats, as server-sent events."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await answer.prepare(request)
        last_id = request.headers.get("Last-Event-ID", "")
        with contextlib.suppress(ConnectionError):
            if not last_id.startswith(f"{self._timeline.started}-"):
                await answer.write(f"id: {self._timeline.id_of(0)}\nevent: begin\ndata: {{}}\n\n".encode())
            while not self._timeline.is_closed:
                for each in self._timeline.after(last_id):
                    last_id = self._timeline.id_of(each["number"])
                    shown = json.dumps({"at": each["at"], **each["event"]}, ensure_ascii=False)
                    await answer.write(f"id: {last_id}\ndata: {shown}\n\n".encode())
                await self._timeline.wait(SIGN_OF_LIFE_S)
                await answer.write(b": alive\n\n")
        return answer

    # Doing

    async def _say(self, request: web.Request) -> web.StreamResponse:
        """`{platform, name, level, text}`."""
        asked = await _asked(request)
        platform, person = self._who(asked)
        text = _text(asked, "text", MAX_TEXT_CHARS)
        return await self._do(platform, lambda: platform.say(person, text))

    async def _happen(self, request: web.Request) -> web.StreamResponse:
        """`{platform, name, level, event}`."""
        asked = await _asked(request)
        platform, person = self._who(asked)
        event = _text(asked, "event", 40)
        if event not in {each.id for each in platform.events}:
            raise web.HTTPUnprocessableEntity(text=f"{platform.title} has no such event.")
        return await self._do(platform, lambda: platform.happen(event, person))

    async def _do(self, platform: Platform, work: Callable[[], None]) -> web.StreamResponse:
        try:
            await asyncio.to_thread(work)
        except Exception as err:
            self._timeline.show(Line(platform.name, "problem", f"The demo itself has failed: {err}"))
            raise
        return web.json_response({"success": True})

    def _who(self, asked: dict[str, Any]) -> tuple[Platform, Person]:
        platform = self._platforms.get(str(asked.get("platform")))
        if platform is None:
            raise web.HTTPUnprocessableEntity(text="There is no such chat.")
        level = str(asked.get("level"))
        if level not in {each.id for each in platform.levels}:
            raise web.HTTPUnprocessableEntity(text=f"{platform.title} has no such level.")
        return platform, Person(_text(asked, "name", MAX_NAME_CHARS), level)

    # The module

    async def _answer_extras(self, request: web.Request) -> web.StreamResponse:
        """A call of the router's."""
        body = await request.read()
        if not extras.is_authentic(self._fleet.webhook_secret, request.headers, body):
            return web.json_response({"success": False, "error": {"code": "unauthorized"}}, status=401)
        return web.json_response(extras.reply(json.loads(body)))


@web.middleware
async def only_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a browser sends as JSON, it asks about before it sends it for another site."""
    if request.method == "POST" and request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send JSON.")
    return await handler(request)


async def _asked(request: web.Request) -> dict[str, Any]:
    try:
        asked = await request.json()
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise web.HTTPBadRequest(text="Send a JSON object.")
    return asked


def _text(asked: dict[str, Any], field: str, most: int) -> str:
    """One line of a request, without what no chat would let through."""
    value = asked.get(field)
    text = "".join(c for c in value if c.isprintable() or c == " ").strip() if isinstance(value, str) else ""
    if not text or len(text) > most:
        raise web.HTTPUnprocessableEntity(text=f"{field} must have 1 to {most} characters.")
    return text
