"""The demo's Spotify: the streamer's account, connected as a browser would, and the devices that it plays on."""

from __future__ import annotations

import re
import uuid
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from ..spotify import SpotifySimulator
from .guard import for_this_machine

STREAMER = "skipper"
LINK = re.compile(r"http\S+/spotify/auth/login\?ticket=\S+")
TIMEOUT = ClientTimeout(total=10)


class Spotify:
    def __init__(self) -> None:
        self._spotify = SpotifySimulator()
        self._spotify.user(STREAMER, devices=["Studio PC", "Kitchen"])

    def start(self) -> None:
        self._spotify.middlewares.append(for_this_machine)
        self._spotify.start()

    def stop(self) -> None:
        self._spotify.stop()

    def settings(self) -> dict[str, str]:
        return self._spotify.settings()

    async def connect(self, session: ClientSession, router_url: str, community: str, key: str) -> None:
        """Type `!spotify connect` as the owner, and go where the link leads."""
        asked = {
            "event_id": str(uuid.uuid4()),
            "message_type": "chatMessage",
            "platform": "console",
            "server_id": community,
            "channel_id": "general",
            "user": {"platform_user_id": "owner", "name": "owner", "display_name": "Owner", "badges": ["owner"]},
            "message": "!spotify connect",
        }
        headers = {"X-API-Key": key}
        async with session.post(f"{router_url}/router/events", json=asked, headers=headers, timeout=TIMEOUT) as answer:
            found = LINK.search(_said(await answer.json()))
        if found is None:
            return
        async with session.get(found[0], allow_redirects=False, timeout=TIMEOUT) as sent:
            cookie = sent.headers["Set-Cookie"].partition(";")[0]
            back = self._spotify.accounts.authorize(sent.headers["Location"], user=STREAMER)
        async with session.get(back, headers={"Cookie": cookie}, timeout=TIMEOUT) as connected:
            connected.raise_for_status()


def _said(answer: Any) -> str:
    return " ".join(str(each["response_data"].get("message", "")) for each in answer.get("responses", []))
