from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot
from waddlebot.testing.plugin import eventually


@dataclass
class Music:
    """A community with music, its overlay as the router hears of it, and YouTube."""

    bot: Bot
    youtube: Any

    def get(self, what: str, **query: Any) -> dict[str, Any]:
        answer = self.bot.fleet.request("GET", f"/youtube/{what}", query={"community_id": self.bot.slug, **query})
        assert answer.status == 200, answer.body
        return answer.json()

    def post(self, what: str, **body: Any) -> Any:
        return self.bot.fleet.request("POST", f"/youtube/{what}", {"community_id": self.bot.slug, **body})

    def set(self, **config: Any) -> None:
        body = {"enabled": True, "config": config}
        done = self.bot.fleet.request("PUT", f"/router/communities/{self.bot.slug}/modules/youtube_music", body)
        assert done.status == 200, done.body

    @property
    def playing(self) -> str | None:
        now = self.get("now-playing")["now_playing"]
        return now["title"] if now else None

    @property
    def waiting(self) -> list[str]:
        return [each["title"] for each in self.get("queue")["queue"]]

    def shown(self, action: str = "media") -> list[dict[str, Any]]:
        """What went to the overlays, in order."""
        with self.bot.fleet.database.transaction() as db:
            rows = fetch(
                db,
                "SELECT id, response_data FROM outbox WHERE community_id = %s AND response_action = %s ORDER BY id",
                (self.bot.community_id, action),
            )
        return [{"outbox_id": row["id"], **row["response_data"]} for row in rows]

    def announced(self) -> list[str]:
        """What was said in chat that nobody asked for."""
        with self.bot.fleet.database.transaction() as db:
            rows = fetch(
                db,
                "SELECT response_data FROM outbox WHERE community_id = %s AND response_action = 'chat'"
                " AND execution_id IS NULL ORDER BY id",
                (self.bot.community_id,),
            )
        return [row["response_data"]["message"] for row in rows]

    def page_says(self, state: str, *, track: dict[str, Any] | None = None, code: int = 0) -> dict[str, Any]:
        """What the page's hub would have the router told, of the song that was sent last."""
        track = track or self.shown()[-1]
        item = {"item_id": f"outbox-{track['outbox_id']}", "track_id": track["track_id"]}
        answer = self.bot.fleet.request(
            "POST", "/router/playback", {**item, "state": state, "code": code}, key="browser_source_core"
        )
        assert answer.status == 200, answer.body
        with_it = (self.bot.community_id, track["track_id"], state)

        def is_told() -> bool:
            sql = "SELECT status FROM playbacks WHERE community_id = %s AND track_id = %s AND state = %s"
            return self.bot.fleet.database.statement(sql, with_it)[0]["status"] != "pending"

        eventually(is_told)
        return answer.json()

    def searches(self) -> list[str]:
        return [query["q"] for path, query in self.youtube.requests if path.endswith("/search")]


@pytest.fixture
def music(bot, youtube_simulator) -> Music:
    bot.install("youtube_music")
    youtube_simulator.requests.clear()
    youtube_simulator.searches_left = 100
    youtube_simulator.mend()
    bot.fleet.database.statement("DELETE FROM youtube_quota")
    return Music(bot, youtube_simulator)
