"""api.spotify.com/v1, as apps in development mode have it since February 2026.

Source: https://developer.spotify.com/documentation/web-api/reference and …/web-api/references/changes
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .accounts import Accounts, Token
from .catalogue import SOME, Playlist, Track
from .faults import Faults, not_listed, refusal
from .player import Device

MAX_SEARCH = 10
READ, MODIFY = "user-read-playback-state", "user-modify-playback-state"
Answer = Callable[[web.Request, Token], Awaitable[web.StreamResponse]]


class WebAPI:
    def __init__(self, accounts: Accounts, faults: Faults) -> None:
        self._accounts = accounts
        self._faults = faults
        self.base_url = ""
        self.tracks: dict[str, Track] = {each.id: each for each in SOME}
        self.playlists: list[Playlist] = []
        # (method, path, whose token) of every call, in order.
        self.calls: list[tuple[str, str, str]] = []

    def routes(self) -> list[web.RouteDef]:
        routes: list[tuple[str, str, Answer, str, bool]] = [
            ("GET", "/me", self._me, "", False),
            ("GET", "/me/", self._me, "", False),  # As spotipy asks for it.
            ("GET", "/me/playlists", self._playlists, "playlist-read-private", False),
            ("GET", "/search", self._search, "", False),
            ("GET", "/tracks/{id}", self._track, "", False),
            ("GET", "/playlists/{id}", self._playlist, "", False),
            ("GET", "/me/player", self._playback, READ, False),
            ("GET", "/me/player/devices", self._devices, READ, False),
            ("GET", "/me/player/queue", self._queue, READ, False),
            ("PUT", "/me/player", self._transfer, MODIFY, True),
            ("PUT", "/me/player/play", self._play, MODIFY, True),
            ("PUT", "/me/player/pause", self._pause, MODIFY, True),
            ("PUT", "/me/player/volume", self._volume, MODIFY, True),
            ("POST", "/me/player/next", self._next, MODIFY, True),
            ("POST", "/me/player/queue", self._add, MODIFY, True),
        ]
        made = [
            web.route(method, f"/v1{path}", self._guarded(path.strip("/"), answer, scope, commands))
            for method, path, answer, scope, commands in routes
        ]
        return [*made, web.get("/image/{id}", self._image)]

    def _guarded(self, path: str, answer: Answer, scope: str, commands: bool) -> Any:
        """What every call goes through; one that commands the player needs Premium."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            authorization = request.headers.get("Authorization", "")
            token = self._accounts.find(authorization)
            self.calls.append((request.method, request.path.removeprefix("/v1"), token.person.id if token else ""))
            fault = self._faults.next(path)
            if fault and not fault.is_after:
                return await fault.answer(request)
            if token is None:
                return refusal(401, "The access token expired" if authorization else "No token provided")
            if not token.person.is_listed:
                return not_listed()
            if scope and scope not in token.scopes:
                return refusal(403, "Insufficient client scope")
            if commands and not token.person.is_premium:
                return refusal(403, "Player command failed: Premium required", "PREMIUM_REQUIRED")
            answered = await answer(request, token)
            return await fault.answer(request) if fault else answered

        return guarded

    async def _me(self, _: web.Request, token: Token) -> web.StreamResponse:
        person = token.person
        return web.json_response({"id": person.id, "display_name": person.name, "type": "user"})

    async def _search(self, request: web.Request, _: Token) -> web.StreamResponse:
        query, limit = request.query.get("q", ""), request.query.get("limit", "5")
        if not query:
            return refusal(400, "No search query")
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_SEARCH:
            return refusal(400, "Invalid limit")
        words = query.lower().split()
        hits = [
            each
            for each in self.tracks.values()
            if all(word in f"{each.name} {each.artist} {each.album}".lower() for word in words)
        ]
        items = [each.as_json(self.base_url) for each in hits[: int(limit)]]
        return web.json_response({"tracks": {"items": items, "limit": int(limit), "offset": 0, "total": len(hits)}})

    async def _track(self, request: web.Request, _: Token) -> web.StreamResponse:
        track = self.tracks.get(request.match_info["id"])
        if track is None:
            return refusal(404, "Resource not found")
        return web.json_response(track.as_json(self.base_url))

    async def _playlists(self, request: web.Request, token: Token) -> web.StreamResponse:
        limit = int(request.query.get("limit", "20"))
        own = [each for each in self.playlists if each.owner == token.person.id]
        items = [each.as_json() for each in own[:limit]]
        return web.json_response({"items": items, "limit": limit, "offset": 0, "total": len(own)})

    async def _playlist(self, request: web.Request, _: Token) -> web.StreamResponse:
        found = self._find_playlist(request.match_info["id"])
        return web.json_response(found.as_json()) if found else refusal(404, "Resource not found")

    def _find_playlist(self, playlist_id: str) -> Playlist | None:
        return next((each for each in self.playlists if each.id == playlist_id), None)

    async def _playback(self, _: web.Request, token: Token) -> web.StreamResponse:
        player = token.person.player
        progress_ms = player.progress_ms
        if player.active is None or player.current is None:
            return web.Response(status=204)
        return web.json_response(
            {
                "device": player.active.as_json(),
                "is_playing": player.is_playing,
                "progress_ms": progress_ms,
                "item": player.current.as_json(self.base_url),
                "currently_playing_type": "track",
            }
        )

    async def _devices(self, _: web.Request, token: Token) -> web.StreamResponse:
        return web.json_response({"devices": [each.as_json() for each in token.person.player.devices]})

    async def _queue(self, _: web.Request, token: Token) -> web.StreamResponse:
        player = token.person.player
        coming = [each.as_json(self.base_url) for each in player.coming()[:20]]
        current = player.current.as_json(self.base_url) if player.current else None
        return web.json_response({"currently_playing": current, "queue": coming})

    async def _transfer(self, request: web.Request, token: Token) -> web.StreamResponse:
        asked = json.loads(await request.text() or "{}")
        player = token.person.player
        device = self._device(token, (asked.get("device_ids") or [""])[0])
        if device is None:
            return refusal(404, "Device not found")
        player.activate(device)
        if asked.get("play"):
            player.resume()
        return web.Response(status=204)

    async def _play(self, request: web.Request, token: Token) -> web.StreamResponse:
        if refused := self._without_device(request, token):
            return refused
        asked = json.loads(await request.text() or "{}")
        player = token.person.player
        if uris := asked.get("uris"):
            tracks = [self.tracks[each.rpartition(":")[2]] for each in uris if each.rpartition(":")[2] in self.tracks]
            if not tracks:
                return refusal(400, "Invalid track uri")
            player.play(*tracks)
        elif context := asked.get("context_uri"):
            found = self._find_playlist(context.rpartition(":")[2])
            if found is None:
                return refusal(404, "Context not found")
            player.play(*found.tracks)
        elif player.is_playing:
            return refusal(403, "Player command failed: Restriction violated", "UNKNOWN")
        else:
            player.resume()
        return web.Response(status=204)

    async def _pause(self, request: web.Request, token: Token) -> web.StreamResponse:
        if refused := self._without_device(request, token):
            return refused
        if not token.person.player.is_playing:
            return refusal(403, "Player command failed: Restriction violated", "UNKNOWN")
        token.person.player.pause()
        return web.Response(status=204)

    async def _volume(self, request: web.Request, token: Token) -> web.StreamResponse:
        if refused := self._without_device(request, token):
            return refused
        device = token.person.player.active
        assert device is not None
        if device.volume_percent is None:
            return refusal(403, "Player command failed: Cannot control device volume", "VOLUME_CONTROL_DISALLOW")
        device.volume_percent = int(request.query["volume_percent"])
        return web.Response(status=204)

    async def _next(self, request: web.Request, token: Token) -> web.StreamResponse:
        if refused := self._without_device(request, token):
            return refused
        token.person.player.next()
        # As the real one has it lately: 200 with something that is no JSON.
        return web.Response(text="gQAPbzL1k", content_type="text/plain")

    async def _add(self, request: web.Request, token: Token) -> web.StreamResponse:
        if refused := self._without_device(request, token):
            return refused
        track = self.tracks.get(request.query.get("uri", "").rpartition(":")[2])
        if track is None:
            return refusal(400, "Invalid track uri")
        token.person.player.queue.append(track)
        return web.Response(status=204)

    def _without_device(self, request: web.Request, token: Token) -> web.StreamResponse | None:
        """Make the device that is named the active one; refuse where there is none."""
        player = token.person.player
        wanted = request.query.get("device_id")
        if wanted:
            device = self._device(token, wanted)
            if device is None:
                return refusal(404, "Device not found")
            player.activate(device)
        if player.active is None:
            return refusal(404, "Player command failed: No active device found", "NO_ACTIVE_DEVICE")
        return None

    def _device(self, token: Token, device_id: str) -> Device | None:
        return next((each for each in token.person.player.devices if each.id == device_id), None)

    async def _image(self, request: web.Request) -> web.StreamResponse:
        """A cover: one colour, from the track's id."""
        colour = zlib.crc32(request.match_info["id"].encode()).to_bytes(4, "big")[:3]
        return web.Response(body=_png(colour), content_type="image/png")


def _png(colour: bytes, size: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + colour * size) * size)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
