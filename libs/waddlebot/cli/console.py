"""The console: a collector for the terminal. One line of chat in, the bot's answers out."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..base.contracts import CONSOLE, Level
from ..base.errors import UpstreamError, WaddleBotError
from ..base.ids import new_id
from ..fleet.home import Home, NoFleet

# A fleet that is starting its web process again is waited for; one that is not there at all is not.
RESTART_PATIENCE_S = 30.0
# The slowest command may take 30 s, and after a crash as long again.
LATE_PATIENCE_S = 65.0
POLL_S = 0.25
# The bot has no account on the console; this is what it is called there.
MENTION = re.compile(r"(?<!\w)@waddlebot\b", re.IGNORECASE)


class Refused(WaddleBotError):
    """The fleet refused the request."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class Speaker:
    name: str
    level: Level = Level.OWNER
    channel: str = "general"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything known about one line: the Answer as the fleet gave it, brought up to date while it waits."""

    answer: dict[str, Any]

    @property
    def is_pending(self) -> bool:
        return any(each["status"] == "pending" for each in self.answer["executions"])

    @property
    def ok(self) -> bool:
        return all(each["status"] == "success" for each in self.answer["executions"])


class Console:
    """Talks to the fleet of a home as account `console`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        running = home.get_running()
        key = home.console_key()
        if key is None:
            raise NoFleet(f"{home.console_key_path} is gone; the next start of the fleet makes it anew.")
        self._url = running.url
        self._overlays_url = running.environment.get("BROWSER_SOURCE_API_URL", "")
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}

    def event(
        self, text: str, speaker: Speaker, *, simulate: bool = False, kind: str = "chatMessage"
    ) -> dict[str, Any]:
        return {
            "event_id": new_id(),
            "message_type": kind,
            "platform": CONSOLE,
            "server_id": "demo",
            "channel_id": speaker.channel,
            "user": {
                "platform_user_id": speaker.name.casefold(),
                "name": speaker.name.casefold(),
                "display_name": speaker.name,
                "badges": [speaker.level.label],
            },
            "message": text,
            "data": {"mentions_bot": True} if MENTION.search(text) else {},
            "mode": "simulate" if simulate else "live",
        }

    def submit(self, event: dict[str, Any]) -> Outcome:
        """Hand an event over. While the fleet restarts the same event is sent again, which runs nothing twice.

        Raises: NoFleet; Refused, with the fleet's own words.
        """
        return Outcome(self._request("POST", "/router/events", event))

    def late(self, event: dict[str, Any], outcome: Outcome) -> Iterator[Outcome]:
        """What becomes of executions that were pending, each time something is new: the same event says so."""
        until = time.monotonic() + LATE_PATIENCE_S
        while outcome.is_pending and time.monotonic() < until:
            time.sleep(POLL_S)
            latest = self.submit(event)
            if latest.answer["responses"] != outcome.answer["responses"] or not latest.is_pending:
                yield latest
            outcome = latest

    def list_unasked(self, channel: str) -> list[dict[str, Any]]:
        """What nobody here has asked for and waits to be said: announcements, and answers whose asker has gone.

        Raises: NoFleet; Refused.
        """
        query = urlencode({"platform": CONSOLE, "entity_id": f"{CONSOLE}:demo:{channel}"})
        replies: list[dict[str, Any]] = self._request("GET", f"/router/outbox?{query}", None)["replies"]
        return replies

    def show_test(self, source_type: str, text: str) -> None:
        """Show something on the demo community's overlay that is marked TEST. Raises: NoFleet; Refused."""
        data = {"title" if source_type == "media" else "text": text} if text else {}
        body = {"community_id": "demo", "action": source_type, "data": data}
        self._request("POST", "/admin/test", body, at=self._overlays_url)

    def shown_on(self, source_type: str) -> str:
        """Where something is shown, or that nobody could see it."""
        try:
            sources = self._request("GET", "/stats?community_id=demo", None, at=self._overlays_url)["sources"]
        except Refused:  # It was shown all the same.
            return f"→ shown on the {source_type} overlay"
        if any(each["connections"] for each in sources if each["source_type"] == source_type):
            return f"→ shown on the {source_type} overlay"
        return f"→ for the {source_type} overlay, of which no page is open"

    def take(self, response: Mapping[str, Any]) -> bool:
        """Whether it is ours to say this reply; recorded as said. False when it was said before."""
        if response["outbox_id"] is None:
            return True
        try:
            self._request("POST", f"/router/outbox/{response['outbox_id']}", {"state": "sent"})
        except Refused:
            return False
        return True

    def _request(self, method: str, path: str, body: dict[str, Any] | None, *, at: str | None = None) -> Any:
        until = time.monotonic() + RESTART_PATIENCE_S
        while True:
            try:
                status, answer = self._once(method, (at or self._url) + path, body)
            except UpstreamError as err:
                running = self._home.find_running()
                if running is None or time.monotonic() > until:
                    raise NoFleet(f"The fleet at {self._url} does not answer: {err.message}") from err
                self._url = running.url  # The fleet may have been started anew elsewhere.
                time.sleep(POLL_S)
                continue
            if status == 200:
                return answer
            if status == 503 and time.monotonic() < until:
                time.sleep(POLL_S)
                continue
            raise Refused(answer["error"]["message"] if isinstance(answer, dict) else f"HTTP {status}")

    def _once(self, method: str, url: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), content, self._headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as err:
            raise UpstreamError(str(err) or type(err).__name__) from err
        finally:
            connection.close()
