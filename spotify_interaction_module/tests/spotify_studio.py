"""A streamer with Spotify, and a browser that goes the way to it and back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from waddlebot.testing.fleet import URL, Bot, Fleet, Heard

LINK = re.compile(r"https?://\S+/spotify/auth/login\?ticket=\S+")


@dataclass
class Browser:
    """Keeps cookies, and asks the fleet in this process as if it were at its address."""

    fleet: Fleet
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, url: str) -> Any:
        assert url.startswith(URL), url
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = self.fleet.request("GET", url.removeprefix(URL), key=None, headers=headers)
        if set_cookie := answer.headers.get("set-cookie"):
            name, _, value = set_cookie.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer


@dataclass
class Studio:
    """A community, its streamer's Spotify in the simulator, and what they say and hear."""

    bot: Bot
    spotify: Any
    name: str

    @property
    def player(self) -> Any:
        return self.spotify.player(self.name)

    def link(self, *, by: str = "owner", level: str = "owner") -> str:
        heard = self.bot.say("!spotify connect", by=by, level=level)
        found = LINK.search(heard.chat)
        assert found, heard.chat
        return found[0]

    def connect(self, *, by: str = "owner", level: str = "owner", user: str = "", grant: Any = None) -> Any:
        """Go the whole way, as an unmodified browser does. Returns the last page."""
        browser = Browser(self.bot.fleet)
        sent = browser.get(self.link(by=by, level=level))
        assert sent.status == 303, sent.body
        back = self.spotify.accounts.authorize(sent.headers["location"], user=user or self.name, grant=grant)
        return browser.get(back)

    def say(self, text: str, *, by: str = "mod", level: str = "moderator") -> Heard:
        return self.bot.say(text, by=by, level=level)

    def ask(self, method: str, path: str, **body: Any) -> Any:
        community = {"community_id": self.bot.slug}
        if method == "GET":
            return self.bot.fleet.request(method, path, query={**community, **body})
        return self.bot.fleet.request(method, path, {**community, **body})
