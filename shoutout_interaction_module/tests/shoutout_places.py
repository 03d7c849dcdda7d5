"""Where shoutouts are said, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot, Heard

from simulators.twitch import Account


@dataclass
class Channel:
    """A Twitch channel of the bot's community."""

    id: str
    bot: Bot

    @property
    def entity_id(self) -> str:
        return f"twitch::{self.id}"

    def submit(self, message_type: str, by: Account, text: str = "", *, level: str = "", **data: Any) -> Heard:
        event = {
            "event_id": new_id(),
            "message_type": message_type,
            "platform": "twitch",
            "channel_id": self.id,
            "user": {
                "platform_user_id": by.id,
                "name": by.login,
                "display_name": by.name,
                "badges": [level] if level else [],
            },
            "message": text,
            "data": data,
        }
        answer = self.bot.fleet.request("POST", "/router/events", event, key="twitch")
        assert answer.status == 200, answer.body
        return Heard(answer.json())

    def raid(self, by: Account, viewers: int = 12) -> Heard:
        return self.submit("raid", by, viewers=viewers, from_channel_id=by.id)


def shown(bot: Bot, heard: Heard) -> dict[str, Any]:
    """What goes to the overlays."""
    found = rows(
        bot,
        "SELECT response_action, response_data FROM outbox WHERE session_id = %s AND response_action <> 'chat'",
        heard.session_id,
    )
    assert len(found) == 1, found
    return {"action": found[0]["response_action"], **found[0]["response_data"]}


def configure(bot: Bot, **settings: Any) -> None:
    body = {"enabled": True, "config": settings}
    answer = bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/shoutout", body)
    assert answer.status == 200, answer.body


def rows(bot: Bot, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    with bot.fleet.database.transaction() as db:
        return fetch(db, sql, parameters)
