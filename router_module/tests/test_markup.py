"""Names and words that people chose are read as they wrote them; a template's own markup stays (contracts §5)."""

from __future__ import annotations

import pytest
from waddlebot.base.markup import as_written
from waddlebot.base.text import as_seen
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to


@pytest.fixture
def hear(bot, fleet):
    """Have somebody with a name in italics say something on a platform: what the bot answers there."""

    def say(platform, text, *, by="_bob_"):
        server = "" if platform == "twitch" else f"S{bot.community_id}"
        with fleet.database.transaction() as db:
            fetch(
                db,
                "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
                " VALUES (%s, %s, %s, '78', %s) ON CONFLICT DO NOTHING",
                (f"{platform}:{server}:78", platform, server, bot.community_id),
            )
        key = f"outside-{platform}"
        if key not in fleet.keys:
            fleet.keys[key] = fleet.make_key(key, "collectors", platforms=[platform])
        person = {"platform_user_id": by, "name": by, "display_name": by, "badges": []}
        event = {**bot.event(text), "platform": platform, "server_id": server, "channel_id": "78", "user": person}
        answer = fleet.request("POST", "/router/events", event, key=key)
        assert answer.status == 200, answer.body
        (response,) = answer.json()["responses"]
        assert (
            set(response["response_data"]) == {"message", "reply", "private"}
            or "markup" not in response["response_data"]
        )
        return response["response_data"]["message"]

    return say


@pytest.mark.parametrize(
    ("text", "on_discord"),
    [
        ("_bob_", r"\_bob\_"),
        ("snake_case_name", "snake_case_name"),
        ("**a** ~~b~~ ||c|| `d`", r"\*\*a\*\* \~\~b\~\~ \|\|c\|\| \`d\`"),
        ("[free](http://evil.example)", r"\[free\](http://evil.example)"),
        ("see http://x.example/a_b_c and _so_", r"see http://x.example/a_b_c and \_so\_"),
        ("# big\n> said\n1. one\n- two", "\\# big\n\\> said\n1\\. one\n\\- two"),
        ("<@12> <3 a\\*b", r"\<@12> <3 a\\\*b"),
        ("[a] 1 > 0 and #1", "[a] 1 > 0 and #1"),
    ],
)
def test_what_is_written_is_what_is_read(text, on_discord):
    assert as_written(text, "discord") == on_discord
    assert as_written(text, "twitch") == text
    on_slack = as_written(text, "slack")
    assert as_seen(on_slack) == text
    assert not any(mark in on_slack for mark in ("_bob", "bob_", "**", "~~", "`d", "d`", " _so"))


@pytest.mark.parametrize(
    ("platform", "bob", "sword"),
    [
        ("discord", r"\_bob\_", r"\[free\](http://x.example)"),
        ("slack", "\u200b_\u200bbob\u200b_\u200b", "[free](http://x.example)"),
        ("twitch", "_bob_", "[free](http://x.example)"),
    ],
)
def test_names_and_words_are_no_markup_and_a_template_keeps_its_own(hear, bot, fleet, stub, platform, bob, sword):
    typed = "[free](http://x.example)"
    bot.say('!alias add hug "*{user}* hugs {arg1}, **twice**"', level="moderator")
    assert hear(platform, f"!hug {typed}") == f"*{bob}* hugs {sword}, **twice**"
    bot.say(f'!inventory add "{typed}" _bob_ x,y', level="moderator")
    assert hear(platform, "!inventory list") == f"1 item: {sword}"
    assert hear(platform, f"!inventory status {typed}") == f"“{sword}” is available – {bob} (x, y)."
    assert hear(platform, "!help _bob_") == f"There is no !{bob} here."
    stub.behaviour = lambda call: reply_to(call, chat(f"**{call['user']['display_name']}** likes {typed}"))
    assert hear(platform, f"!stub {typed}") == f"**{bob}** likes {sword}"
