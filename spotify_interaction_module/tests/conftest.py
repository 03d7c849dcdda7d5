"""A streamer with Spotify, and a browser that goes the way to it and back."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.fleet import URL, Bot, Fleet, Heard

OPENER = urllib.request.build_opener(urllib.request.HTTPRedirectHandler)
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


@pytest.fixture
def stranger(bot: Bot, spotify_simulator: Any) -> Any:
    """A community of which nobody has connected anything yet."""
    spotify_simulator.heal()
    name = f"u{new_id()[-12:]}"
    spotify_simulator.user(name, devices=["Studio"])
    bot.install("spotify")
    yield Studio(bot, spotify_simulator, name)
    spotify_simulator.heal()


@pytest.fixture
def studio(stranger: Studio) -> Studio:
    """One whose owner has connected their account."""
    answer = stranger.connect()
    assert answer.status == 200, answer.body
    return stranger


__all__ = ["Browser", "CookieJar", "Studio"]
