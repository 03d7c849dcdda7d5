"""A streamer's browser, for tests: it keeps cookies and follows what the pages and Twitch say."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from waddlebot.testing.fleet import Fleet
from waddlebot.web.http import HTTPResponse

from simulators.twitch import TwitchSimulator


@dataclass
class Browser:
    fleet: Fleet
    twitch: TwitchSimulator
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, url: str) -> HTTPResponse:
        parts = urlsplit(url)
        return self._keep_cookies(
            self.fleet.request("GET", f"{parts.path}?{parts.query}", key=None, headers=self._headers)
        )

    def post(self, path: str, **form: str) -> HTTPResponse:
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        return self._keep_cookies(self.fleet.request("POST", path, urlencode(form).encode(), key=None, headers=headers))

    def consent(self, user: str, *, start: str = "/twitch/auth/login?moderate=1", **options: Any) -> HTTPResponse:
        """Go to Twitch, decide there as `user`, and come back. Returns the page that one sees then."""
        return self.get(self.decide(user, start=start, **options))

    def decide(self, user: str, *, start: str = "/twitch/auth/login?moderate=1", **options: Any) -> str:
        """Decide at Twitch. Returns where it sends the browser."""
        sent = self.get(start)
        assert sent.status == 303, sent.body
        return self.twitch.authorize(sent.headers["location"], user=user, **options)

    def leave(self, user: str) -> HTTPResponse:
        asked = self.consent(user, start="/twitch/auth/leave/login")
        state = re.search(r'name="state" value="([^"]+)"', asked.body.decode())
        assert state, asked.body
        return self.post("/twitch/auth/leave", state=state[1])

    @property
    def _headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def _keep_cookies(self, answer: HTTPResponse) -> HTTPResponse:
        if header := answer.headers.get("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer


def text_of(page: HTTPResponse) -> str:
    """What one reads on a page."""
    body = page.body.decode()
    visible = re.sub(r"<style>.*?</style>|<[^>]+>", " ", body, flags=re.DOTALL)
    return " ".join(html.unescape(visible).split())
