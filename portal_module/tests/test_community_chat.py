"""!community and !announce, as people say them."""

from __future__ import annotations

import importlib

from waddlebot.base.ids import new_id
from waddlebot.community.people import PEOPLE, link, unlink
from waddlebot.data.database import fetch, fetch_one
from waddlebot.testing.fleet import cut_off


def name() -> str:
    return f"Huddle {new_id()[-9:]}"


def test_somebody_makes_a_community_and_talks_about_it_for_an_hour(bot, fleet):
    who, wanted = f"pip{new_id()[-9:]}", name()
    assert bot.say(f"!community create {wanted}", by=who).chat.startswith(f"{wanted} is yours.")
    assert bot.say("!community context", by=who).chat == f"Your !community is about {wanted}."
    assert wanted in bot.say("!community list", by=who).chat
    assert "1 member in 0 channels, owned by" in bot.say("!community info", by=who).chat
    assert "(owner)" in bot.say("!community members", by=who).chat
    assert bot.say(f"!community context “{wanted.upper()}\u200b”", by=who).chat.endswith(f" is about {wanted}.")
    assert bot.say("!community context off", by=who).chat == "Your !community is about where you say it."
    assert bot.slug in bot.say("!community info", by=who).chat
    assert "There is no community “nowhere”." in bot.say("!community context nowhere", by=who).chat
    assert bot.say("!community create", by=who).chat == "Usage: !community create <name>"
    with fleet.database.transaction() as db:
        row = fetch_one(
            db,
            "SELECT count(*) AS n FROM audit a JOIN communities c ON c.id = a.community_id WHERE c.name = %s",
            (wanted,),
        )
    assert row["n"] == 1


def test_a_channel_moves_between_communities_of_one_owner_only(bot, fleet):
    owner, other = f"own{new_id()[-9:]}", f"oth{new_id()[-9:]}"
    mine = f"console:{bot.slug}:general"
    bot.say("hello", by=owner)
    wanted = name()
    bot.say(f"!community create {wanted}", by=owner)
    assert "not a channel of a community that you own" in bot.say(f"!community add entity {mine}", by=owner).chat
    with fleet.database.transaction() as db:
        fetch(
            db,
            "UPDATE communities SET owner_id = (SELECT user_id FROM platform_identities WHERE platform_user_id = %s)"
            " WHERE id = %s",
            (owner, bot.community_id),
        )
    bot.say(f"!community create {name()}", by=other)
    assert "not a channel of a community" in bot.say(f"!community add entity {mine}", by=other).chat
    assert bot.say(f"!community add entity {mine}", by=owner).chat == f"{mine} is in {wanted} from now on."
    with fleet.database.transaction() as db:
        row = fetch_one(
            db, "SELECT name FROM entities e JOIN communities c ON c.id = e.community_id WHERE entity_id = %s", (mine,)
        )
    assert row["name"] == wanted


def test_roles_are_given_by_who_may_and_are_in_the_audit_log_by_name(bot, fleet):
    who = f"mel{new_id()[-9:]}"
    bot.say("hello", by=who)
    assert (
        "Only an admin or above may make somebody vip." in bot.say(f"!community role @{who} vip", level="member").chat
    )
    said = bot.say(f"!community role @{who} moderator", by="boss", level="admin").chat
    assert said == f"{who.title()} is moderator in {bot.slug} from now on."
    assert "Only an owner may make" in bot.say(f"!community role @{who} admin", by="boss", level="admin").chat
    assert "The roles are" in bot.say(f"!community role @{who} king", level="owner").chat
    assert bot.say(f"!community role @{who} admin", by="boss", level="owner").statuses == ["success"]
    with fleet.database.transaction() as db:
        rows = fetch(
            db,
            "SELECT a.own_id IS NOT NULL AS is_known, a.after FROM audit a"
            " WHERE community_id = %s AND action = 'role_assigned' ORDER BY id",
            (bot.community_id,),
        )
    assert [row["after"]["role"] for row in rows] == ["moderator", "admin"]
    assert all(row["is_known"] for row in rows)


def test_announcements_are_said_where_they_are_wanted(bot):
    assert bot.say("!announce", level="moderator").chat == "Usage: !announce <text>"
    assert bot.say("!announce We are live", level="member").statuses == ["denied"]
    assert bot.say("!announce We are live", level="moderator").chat == "Said in 1 channel."
    assert "No announcements here any more." in bot.say("!community announce off", level="admin").chat
    assert bot.say("!announce Again", level="moderator").chat == "No channel takes announcements."
    assert "from now on" in bot.say("!community announce here", level="admin").chat
    assert "Only an admin" in bot.say("!community announce off", level="moderator").chat


def test_who_leaves_is_no_member_until_they_speak_again(bot, fleet):
    who = f"lea{new_id()[-9:]}"
    bot.say("hello", by=who)

    def is_member() -> bool:
        with fleet.database.transaction() as db:
            row = fetch_one(
                db,
                "SELECT m.is_active FROM community_memberships m JOIN platform_identities i ON i.user_id = m.user_id"
                " WHERE i.platform_user_id = %s AND m.community_id = %s",
                (who, bot.community_id),
            )
        return bool(row and row["is_active"])

    assert is_member()
    assert bot.say("!community leave", by=who).chat == f"You left {bot.slug}. Whenever you speak in it you are back."
    assert not is_member()
    bot.say("I am back", by=who)
    assert is_member()
    assert bot.say(f"!community add user @{who}", level="member").chat.startswith("Only a moderator or above")
    assert bot.say("!community add user @nobody-knows", level="moderator").chat.startswith("I do not know anybody")


def test_what_is_simulated_makes_nothing(bot, fleet):
    wanted = name()
    heard = bot.submit({**bot.event(f"!community create {wanted}"), "mode": "simulate"})
    assert f"{wanted} is yours." in heard.chat
    with fleet.database.transaction() as db:
        assert fetch_one(db, "SELECT 1 AS here FROM communities WHERE name = %s", (wanted,)) is None


def test_a_context_counts_for_all_accounts_of_a_person_and_parts_with_them(bot, fleet):
    """One person, several numbers: link, act, unlink."""
    one, two, wanted = f"one{new_id()[-9:]}", f"two{new_id()[-9:]}", name()
    for each in (one, two):
        bot.say("hello", by=each)
    with fleet.database.transaction() as db:
        numbers = {
            row["platform_user_id"]: row["user_id"]
            for row in fetch(
                db,
                "SELECT platform_user_id, user_id FROM platform_identities WHERE platform_user_id = ANY(%s)",
                ([one, two],),
            )
        }
        told = link(db, numbers[one], numbers[two])
    router = importlib.import_module("apps.router_module.app")
    router.bus.invalidate(PEOPLE, *told)
    bot.say(f"!community create {wanted}", by=one)
    assert bot.say("!community context", by=two).chat == f"Your !community is about {wanted}."
    assert bot.say("!community members", by=two).chat.startswith("1 member.")
    with fleet.database.transaction() as db:
        told = unlink(db, numbers[one])
    router.bus.invalidate(PEOPLE, *told)
    assert bot.slug in bot.say("!community context", by=two).chat
    assert wanted in bot.say("!community context", by=one).chat


def test_what_a_crash_cut_off_is_said_to_be_unknown_and_not_done_again(bot, fleet):
    who = f"mel{new_id()[-9:]}"
    bot.say("hello", by=who)
    bot.say("hello", by="boss", level="owner")
    effects = {
        f"!community role @{who} vip": f"make {who.title()} vip",
        "!community announce off": "say announcements off",
    }
    for text, effect in effects.items():
        reply = cut_off(bot, "portal", text, effect)
        assert (reply["is_unknown"], reply["error_message"]) == (
            True,
            f"Nobody can say whether this came about: {effect}. It is not tried again.",
        )
    with fleet.database.transaction() as db:
        assert fetch(db, "SELECT 1 FROM community_rbac WHERE community_id = %s", (bot.community_id,)) == []
        assert fetch(db, "SELECT 1 FROM module_switches WHERE community_id = %s", (bot.community_id,)) == []
