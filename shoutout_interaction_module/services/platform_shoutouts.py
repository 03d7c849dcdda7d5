"""Twitch's own shoutout. The Twitch collector sends it: it has the tokens, and keeps to Twitch's limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from waddlebot.base.errors import UpstreamError
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import Manifest, find_manifest
from waddlebot.data.database import Database
from waddlebot.web.clients import FleetClient
from waddlebot.web.http import is_below

TIMEOUT_S = 5.0
PATH = "/twitch/api/shoutout"
# Later than that nobody knows any more why somebody is shouted out.
MAX_WAIT_S = 900


class PlatformShoutouts:
    """Asks for it, once or more often: who waits for a shoutout already is not put into the queue again."""

    def __init__(self, database: Database, client: FleetClient, log: AAALog, *, bases: Sequence[str]) -> None:
        self._database = database
        self._client = client
        self._log = log
        self._bases = bases

    def send(self, channel_id: str, to_user_id: str, *, within_s: float) -> str:
        """`sent`, `waiting`, or why not. What does not come about is logged and spoils no shoutout of ours."""
        url = self._find_collector()
        if url is None:
            return "no_collector"
        asked = {"channel_id": channel_id, "to_user_id": to_user_id, "max_wait_s": MAX_WAIT_S}
        body = json.dumps(asked).encode()
        try:
            answer = self._client.post(url + PATH, body, timeout_s=min(TIMEOUT_S, within_s))
            state = _state(answer.json())
        except (UpstreamError, ValueError) as err:
            state = err.code if isinstance(err, UpstreamError) else "not_understood"
        if state not in ("sent", "waiting"):
            self._log.system("platform_shoutout", result="FAILED", channel=channel_id, twitch_id=to_user_id, why=state)
        return state

    def _find_collector(self) -> str | None:
        """Where the collector of Twitch has said that it is, if that is an address of this fleet's."""
        rows = self._database.statement(
            # A collector with commands has registered where these are executed.
            "SELECT substring(endpoint_url FROM '^[a-z]+://[^/]+') AS url FROM collector_modules"
            " WHERE module_name = 'twitch' AND platform = 'twitch'"
        )
        url = str(rows[0]["url"]) if rows else ""
        return url if is_below(url, self._bases) else None


def collector_bases(own: Manifest, own_url: str, named: Sequence[tuple[str, str]]) -> list[str]:
    """Where the collector of Twitch may be: in this process, beside it, in its container, or where MODULE_URLS says."""
    twitch = find_manifest("twitch")
    if twitch is None:
        return []
    shift = (urlsplit(own_url).port or own.port) - own.port
    beside = [f"http://127.0.0.1:{twitch.port + shift}", f"http://{twitch.host}:{twitch.port}"]
    return [own_url, *beside, *(base for name, base in named if name == twitch.name)]


def _state(answer: dict[str, Any]) -> str:
    return str(answer.get("state") or answer.get("error", {}).get("code") or "failed")
