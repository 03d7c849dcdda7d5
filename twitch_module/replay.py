"""`waddlebot replay`: recorded notifications of Twitch, fed to the running fleet's own webhook."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from waddlebot.base.errors import ConfigError, Invalid, UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import Manifest
from waddlebot.fleet.home import Home
from waddlebot.web.http import HTTPClient

SECRET = "TWITCH_WEBHOOK_SECRET"  # noqa: S105 - the setting's name
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of a recording."""

    line: int
    delivery_id: str
    type: str
    version: str
    body: bytes
    # When it was recorded, in seconds; only differences count.
    at: float | None


@dataclass(slots=True)
class Counts:
    taken: int = 0
    refused: int = 0
    not_understood: int = 0

    @property
    def ok(self) -> bool:
        return not self.refused and not self.not_understood


@dataclass(slots=True)
class Replay:
    """Posts recordings, signed as Twitch signs."""

    url: str
    secret: bytes
    speed: float | None = None
    fresh: bool = False
    counts: Counts = field(default_factory=Counts)
    _http: HTTPClient = field(default_factory=HTTPClient)

    def run(self, lines: Iterable[bytes]) -> Iterator[str]:
        """Feed a recording, line by line. Yields a problem for each line that was not taken."""
        pace = Pace(self.speed)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                recorded = parse(number, line, fresh=self.fresh)
            except Invalid as err:
                self.counts.not_understood += 1
                yield f"line {number}: {err.message}"
                continue
            pace.wait_for(recorded.at)
            refusal = self._post(recorded)
            if refusal is None:
                self.counts.taken += 1
            else:
                self.counts.refused += 1
                yield f"line {number}: {refusal}"

    def _post(self, recorded: Recorded) -> str | None:
        """Returns why it was refused, or None."""
        sent_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        signed = (recorded.delivery_id + sent_at).encode() + recorded.body
        prefix = "Twitch-Eventsub-"
        headers = {
            "Content-Type": "application/json",
            f"{prefix}Message-Id": recorded.delivery_id,
            f"{prefix}Message-Retry": "0",
            f"{prefix}Message-Type": "notification",
            f"{prefix}Message-Signature": "sha256=" + hmac.new(self.secret, signed, hashlib.sha256).hexdigest(),
            f"{prefix}Message-Timestamp": sent_at,
            f"{prefix}Subscription-Type": recorded.type,
            f"{prefix}Subscription-Version": recorded.version,
        }
        try:
            answer = self._http.request("POST", self.url, body=recorded.body, headers=headers, timeout_s=TIMEOUT_S)
        except UpstreamError as err:
            return f"not taken: {err.message}"
        if 200 <= answer.status < 300:
            return None
        return f"refused with HTTP {answer.status}: {answer.body[:300].decode('utf-8', 'replace')}"


class Pace:
    """Waits as long between two recordings as they were apart, at a speed; not at all without one."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._began: tuple[float, float] | None = None

    def wait_for(self, at: float | None) -> None:
        if self._speed is None or at is None:
            return
        now = time.monotonic()
        first_at, began = self._began = self._began or (at, now)
        time.sleep(max(0.0, began + (at - first_at) / self._speed - now))


def parse(number: int, line: bytes, *, fresh: bool = False) -> Recorded:
    """A line of a recording; `fresh` gives it ids that nobody has seen. Raises: Invalid."""
    try:
        given = json.loads(line)
    except ValueError as err:
        raise Invalid(f"This is not JSON: {err}") from err
    if not isinstance(given, dict) or not isinstance(given.get("event"), dict):
        raise Invalid('A line is an object with an "event", as Twitch sends it.')
    subscription = given.get("subscription")
    named = subscription if isinstance(subscription, dict) else given
    type_ = named.get("type")
    if not isinstance(type_, str) or not type_:
        raise Invalid('Say what it is: "type": "channel.follow", or the whole "subscription".')
    event = given["event"]
    if fresh and "message_id" in event:
        event = {**event, "message_id": new_id()}
    version = str(named.get("version", "1"))
    body = {"subscription": subscription or _subscription(type_, version, event), "event": event}
    delivery_id = given.get("id")
    return Recorded(
        number,
        delivery_id if isinstance(delivery_id, str) and delivery_id and not fresh else new_id(),
        type_,
        version,
        json.dumps(body, ensure_ascii=False).encode(),
        _parse_time(given.get("at")),
    )


def _subscription(type_: str, version: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """The subscription that an event must have had."""
    names = ("broadcaster_user_id", "to_broadcaster_user_id", "user_id")
    place = next((name for name in names if event.get(name)), None)
    return {
        "id": new_id(),
        "type": type_,
        "version": version,
        "status": "enabled",
        "cost": 0,
        "condition": {place: event[place]} if place else {},
        "transport": {"method": "webhook", "callback": "https://replayed.invalid/"},
        "created_at": datetime.now(UTC).isoformat(),
    }


def _parse_time(at: object) -> float | None:
    """Seconds, or a time as in RFC 3339. Raises: Invalid."""
    if at is None:
        return None
    if isinstance(at, int | float) and not isinstance(at, bool):
        return float(at)
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except ValueError as err:
        raise Invalid('"at" is a number of seconds or a time such as 2026-11-22T20:15:00Z.') from err


def open_replay(manifest: Manifest, home: Home, *, url: str | None, speed: float | None, fresh: bool) -> Replay:
    """A replay into the home's fleet, or to the webhook at `url`. Raises: NoFleet; ConfigError without a secret."""
    running = home.find_running() if url else home.get_running()
    secret = os.environ.get(SECRET) or (running.environment.get(SECRET) if running else None)
    if not secret:
        raise ConfigError(f"Set {SECRET} to the fleet's: without it Twitch's deliveries cannot be signed.")
    webhook = url or f"{running.modules[manifest.name]}{manifest.prefix}/webhook" if running else url
    assert webhook is not None
    return Replay(webhook, secret.encode(), speed, fresh)
