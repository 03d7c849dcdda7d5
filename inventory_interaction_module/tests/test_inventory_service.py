"""What holds whoever asks, and however many at once: one holder, one reply, a trail, and communities apart."""

from __future__ import annotations

import threading
from collections.abc import Callable

from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot

THREADS = 8


def mod(bot: Bot, text: str, **more: str) -> str:
    return bot.say(f"!inventory {text}", level="moderator", **more).chat


def at_once(run: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def trail(bot: Bot) -> list[tuple[str, str]]:
    """What the community's activity log says was done, and by whom."""
    with bot.fleet.database.transaction() as db:
        rows = fetch(
            db,
            "SELECT action, performed_by FROM inventory_activity WHERE community_id = %s ORDER BY id",
            (bot.community_id,),
        )
    return [(row["action"], row["performed_by"]) for row in rows]


def test_one_of_many_who_want_an_item_at_once_gets_it(bot):
    mod(bot, 'add "Blue Sword" shiny')
    replies: dict[str, str] = {}

    def want(n: int) -> None:
        replies[f"viewer{n}"] = mod(bot, f'checkout "Blue Sword" viewer{n}', by=f"mod{n}")

    at_once(want)
    winners = [who for who, reply in replies.items() if reply == f"“Blue Sword” is now with {who}."]
    assert len(winners) == 1
    losers = [reply for reply in replies.values() if reply == f"“Blue Sword” is already with {winners[0]}."]
    assert len(losers) == THREADS - 1
    assert [action for action, _ in trail(bot)] == ["item_added", "item_checked_out"]


def test_one_of_many_who_add_a_name_at_once_adds_it(bot):
    replies: list[str] = []
    at_once(lambda n: replies.append(mod(bot, f"add Lamp d{n}", by=f"mod{n}")))
    assert sorted(replies) == ["Added “Lamp”."] + ["There is already an item called “Lamp”."] * (THREADS - 1)


def test_one_of_many_who_return_an_item_at_once_returns_it(bot):
    mod(bot, "add Lamp d")
    mod(bot, "checkout Lamp Bob")
    replies: list[str] = []
    at_once(lambda n: replies.append(mod(bot, "checkin Lamp", by=f"mod{n}")))
    assert sorted(replies) == ["“Lamp” is back from Bob."] + ["“Lamp” is not checked out."] * (THREADS - 1)


def test_labels_added_at_once_do_not_exceed_the_limit(bot):
    mod(bot, "add Lamp d a,b,c")
    replies: list[str] = []
    at_once(lambda n: replies.append(mod(bot, f"labels Lamp add x{n}", by=f"mod{n}")))
    assert sum("now has" in reply for reply in replies) == 2
    assert sum(reply == "An item can have 5 labels; these are 6." for reply in replies) == THREADS - 2


def test_the_same_message_again_gets_the_same_reply_and_does_nothing(bot):
    event = bot.event("!inventory add Lamp bright", level="moderator")
    replies: list[str] = []
    first = bot.submit(event)
    at_once(lambda _: replies.append(bot.submit(event).chat))
    assert set(replies) == {first.chat} == {"Added “Lamp”."}
    assert len(trail(bot)) == 1


def test_everything_that_changed_is_on_the_trail_and_nothing_else(bot):
    mod(bot, 'add Lamp "bright" a', by="mia")
    mod(bot, "add Lamp again", by="mia")
    mod(bot, "checkout Lamp Bob", by="noa")
    mod(bot, "checkout Lamp Eve", by="noa")
    mod(bot, "checkin Lamp", by="noa")
    mod(bot, "labels Lamp add b", by="mia")
    mod(bot, "labels Lamp remove a", by="mia")
    bot.say("!inventory delete Lamp", by="ada", level="admin")
    bot.say("!inventory list")
    assert trail(bot) == [
        ("item_added", "Mia"),
        ("item_checked_out", "Noa"),
        ("item_checked_in", "Noa"),
        ("label_added", "Mia"),
        ("label_removed", "Mia"),
        ("item_deleted", "Ada"),
    ]


def test_a_simulated_message_is_answered_and_writes_nothing(bot):
    mod(bot, "add Lamp bright")
    before = trail(bot)
    for text, reply in (
        ("add Sword sharp", "Added “Sword”."),
        ("checkout Lamp Bob", "“Lamp” is now with Bob."),
        ("labels Lamp add x", "“Lamp” now has x."),
        ("delete Lamp", "Deleted “Lamp”."),
    ):
        heard = bot.say(f"!inventory {text}", level="owner", mode="simulate")
        assert (heard.statuses, heard.chat) == (["success"], reply)
    assert bot.say("!inventory add Lamp x", level="owner", mode="simulate").statuses == ["failed"]
    assert trail(bot) == before
    assert bot.say("!inventory list").chat == "1 item: Lamp"
    assert bot.say("!inventory status Lamp").chat == "“Lamp” is available – bright."
    assert bot.say("!inventory stats").chat == "1 item: 1 available, 0 checked out."


def test_a_communitys_items_are_its_own_in_all_its_channels(fleet, bot):
    other = fleet.bot()
    mod(bot, "add Lamp ours")
    mod(other, "add Lamp theirs")
    assert bot.say("!inventory status Lamp", channel="elsewhere").chat == "“Lamp” is available – ours."
    other.say("!inventory delete Lamp", level="owner")
    assert other.say("!inventory list").chat == "The inventory is empty."
    assert bot.say("!inventory stats").chat.startswith("1 item")


def test_a_refused_addition_leaves_nothing_behind(bot):
    mod(bot, "add Lamp bright a,b,c,d,e,f")
    assert trail(bot) == []
    assert bot.say("!inventory search a").chat == "Nothing matches “a”."
    assert mod(bot, 'add Lamp "bright" a') == "Added “Lamp” (a)."
