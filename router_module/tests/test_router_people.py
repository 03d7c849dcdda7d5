"""People (contracts §7): who speaks is a member, names follow, one person may have several numbers, labels count."""

from __future__ import annotations

from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.community.people import LABELS, PEOPLE, NotLinked, SamePerson, link, unlink
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to


def own_id(fleet, name: str) -> int:
    rows = fleet.database.statement(
        "SELECT user_id FROM platform_identities WHERE platform = 'console' AND platform_user_id = %s", (name,)
    )
    return rows[0]["user_id"]


def change(fleet, run, *numbers: int) -> None:
    """Link or unlink as a module does: in a transaction, telling everybody after the commit."""
    with fleet.database.transaction() as db:
        together = run(db, *numbers)
    service_bus(fleet).invalidate(PEOPLE, *together)


def service_bus(fleet) -> Any:
    from waddlebot.module.service import SERVICES

    return SERVICES[0].bus


@pytest.fixture
def two(fleet, bot) -> tuple[str, str]:
    """Two accounts that nobody else uses, each of which has spoken here once."""
    names = "a" + new_id(), "b" + new_id()
    for name in names:
        bot.say("hello", by=name)
    return names


def points(bot, name: str) -> int:
    """What somebody has, asked for without saying anything."""
    path = f"/router/reputation/{bot.slug}/{own_id(bot.fleet, name)}"
    return int(bot.fleet.request("GET", path).json()["current_score"])


def members(fleet, bot) -> list[str]:
    rows = fleet.database.statement(
        "SELECT i.platform_user_id FROM community_memberships m JOIN platform_identities i USING (user_id)"
        " WHERE m.community_id = %s AND m.is_active ORDER BY 1",
        (bot.community_id,),
    )
    return [row["platform_user_id"] for row in rows]


# Membership


def test_who_speaks_in_a_community_is_its_member(fleet, bot, two):
    assert members(fleet, bot) == sorted(two)


def test_who_is_only_simulated_or_leaves_is_no_member(fleet, bot):
    bot.say("hello", by="s" + new_id(), mode="simulate")
    bot.submit({**bot.event("", by="l" + new_id()), "message_type": "member_leave"})
    assert members(fleet, bot) == []


def test_who_left_is_a_member_again_when_they_speak(fleet, bot, two):
    fleet.database.statement(
        "UPDATE community_memberships SET is_active = false WHERE community_id = %s", (bot.community_id,)
    )
    service_bus(fleet).invalidate("members")
    bot.say("I am back", by=two[0])
    assert members(fleet, bot) == [two[0]]


def test_who_was_reported_to_have_done_something_is_a_member(fleet, bot, two):
    other = fleet.bot()
    body = {"userid": own_id(fleet, two[0]), "activity": "chatMessage", "namespace": other.slug}
    assert fleet.request("POST", "/api/reputation", body).status == 200
    assert members(fleet, other) == [two[0]]


# Names


def said_by(bot, account: str, name: str, **more: Any) -> dict[str, Any]:
    user = {"platform_user_id": account, "name": name, "display_name": name.title(), "badges": []}
    return {**bot.event("hello"), "user": user, **more}


def test_a_new_name_is_the_one_that_is_shown_and_found(bot):
    account, old, new = "n" + new_id(), "old" + new_id()[-12:], "new" + new_id()[-12:]
    bot.submit(said_by(bot, account, old))
    bot.submit(said_by(bot, account, new))
    assert bot.say(f"!points @{new}").chat.startswith(new.title())
    assert "Nobody called" in bot.say(f"!points @{old}").chat


def test_what_was_said_earlier_and_comes_later_does_not_bring_an_old_name_back(bot):
    account, old, new = "n" + new_id(), "old" + new_id()[-12:], "new" + new_id()[-12:]
    bot.submit(said_by(bot, account, new, occurred_at="2026-11-20T12:00:00Z"))
    bot.submit(said_by(bot, account, old, occurred_at="2026-11-20T11:59:00Z"))
    assert bot.say(f"!points @{new}").chat.startswith(new.title())
    assert "Nobody called" in bot.say(f"!points @{old}").chat


def test_an_event_without_a_name_leaves_the_one_that_is_known(bot):
    account, name = "n" + new_id(), "ada" + new_id()[-12:]
    bot.submit(said_by(bot, account, name))
    bot.submit(said_by(bot, account, ""))
    assert bot.say(f"!points @{name}").chat.startswith(name.title())


def test_a_name_belongs_to_who_bears_it_now(bot):
    name = "bob" + new_id()[-12:]
    first, second = "n" + new_id(), "n" + new_id()
    for _ in range(3):
        bot.submit(said_by(bot, second, "somebody" + new_id()[-12:]))
    bot.submit(said_by(bot, first, name))
    assert "has 5 points" in bot.say(f"!points @{name}").chat
    # The first one gives the name up elsewhere, unheard, and the second one takes it.
    bot.submit(said_by(bot, second, name))
    assert "has 20 points" in bot.say(f"!points @{name}").chat


# One person, several numbers


def test_linked_accounts_have_their_points_together_and_apart_again_to_the_point(fleet, bot, two):
    a, b = two
    bot.say("hello again", by=a)
    assert (points(bot, a), points(bot, b)) == (10, 5)

    change(fleet, link, own_id(fleet, a), own_id(fleet, b))
    assert (points(bot, a), points(bot, b)) == (15, 15)
    leaders = fleet.request("GET", f"/router/reputation/{bot.slug}/leaderboard").json()["leaderboard"]
    assert [(each["user_id"], each["current_score"]) for each in leaders] == [(own_id(fleet, b), 15)]

    bot.say("and once more", by=b)
    change(fleet, unlink, own_id(fleet, a))
    assert (points(bot, a), points(bot, b)) == (10, 10)


def test_a_role_of_one_account_counts_for_the_others(fleet, bot, two):
    a, b = two
    body = {"community_id": bot.slug, "assignments": [{"user_id": own_id(fleet, a), "role": "moderator"}]}
    assert fleet.request("POST", "/router/roles/assign", body).json()["results"][0]["success"]
    assert bot.say("!inventory add Sword shiny", by=b).statuses == ["denied"]

    change(fleet, link, own_id(fleet, b), own_id(fleet, a))
    assert bot.say("!inventory add Sword shiny", by=b).statuses == ["success"]
    found = fleet.request("GET", "/router/roles", query={"community_id": bot.slug, "user_id": own_id(fleet, b)})
    assert found.json()["roles"][0]["role"] == "moderator", found.body

    change(fleet, unlink, own_id(fleet, a))
    assert bot.say("!inventory add Shield shiny", by=b).statuses == ["denied"]


def test_a_lower_role_ends_the_higher_one_of_a_linked_account_and_undo_gives_both_back(fleet, bot, two):
    a, b = two
    change(fleet, link, own_id(fleet, b), own_id(fleet, a))
    give(fleet, bot, own_id(fleet, a), "moderator")
    give(fleet, bot, own_id(fleet, b), "subscriber")
    assert [bot.say("!inventory add Sword shiny", by=each).statuses for each in two] == [["denied"], ["denied"]]

    (entry,) = fleet.database.statement(
        "SELECT undo FROM audit WHERE community_id = %s AND subject = %s",
        (bot.community_id, f"role/{own_id(fleet, b)}"),
    )
    assert fleet.request("POST", entry["undo"]["path"], entry["undo"]["body"]).status == 200
    assert bot.say("!inventory add Sword shiny", by=b).statuses == ["success"]

    give(fleet, bot, own_id(fleet, a), "owner")
    key = fleet.make_key(f"program {bot.slug}", "api-users", community_id=bot.community_id)
    refused = give(fleet, bot, own_id(fleet, b), "member", key=key)
    assert refused["error"]["code"] == "not_allowed", "one person's other number is no way around who is above"


def give(fleet, bot, user: int, role: str, *, key: str = "console") -> Any:
    body = {"community_id": bot.slug, "assignments": [{"user_id": user, "role": role}]}
    return fleet.request("POST", "/router/roles/assign", body, key=key).json()["results"][0]


def test_a_role_given_after_linking_counts_at_once(fleet, bot, two):
    a, b = two
    change(fleet, link, own_id(fleet, b), own_id(fleet, a))
    bot.say("hello", by=b)
    body = {"community_id": bot.slug, "assignments": [{"user_id": own_id(fleet, b), "role": "moderator"}]}
    fleet.request("POST", "/router/roles/assign", body)
    assert bot.say("!inventory add Sword shiny", by=a).statuses == ["success"]


def test_a_call_says_which_account_asked_and_whose_it_is(fleet, bot, stub, two):
    a, b = two
    change(fleet, link, own_id(fleet, a), own_id(fleet, b))
    bot.say("!stub", by=a)
    user = stub.calls[-1]["user"]
    assert (user["id"], user["own_id"]) == (own_id(fleet, b), own_id(fleet, a))
    assert user["ids"] == sorted([own_id(fleet, a), own_id(fleet, b)])


def test_linked_accounts_share_their_limits(fleet, bot, stub, two):
    a, b = two
    stub.register(fleet, {"command": "stub", "rate_limit": 1})
    change(fleet, link, own_id(fleet, a), own_id(fleet, b))
    assert bot.say("!stub", by=a).statuses == ["success"]
    assert bot.say("!stub", by=b).statuses == ["rate_limited"]


def test_why_speaks_of_what_any_of_their_accounts_said_last(fleet, bot, two):
    a, b = two
    change(fleet, link, own_id(fleet, a), own_id(fleet, b))
    bot.say("!nothing of the kind", by=b)
    assert "!nothing" in bot.say("!why", by=a).chat


def test_three_accounts_stay_one_person_when_the_one_that_speaks_for_them_leaves(fleet, bot, two):
    third = "c" + new_id()
    bot.say("hello", by=third)
    a, b, c = (own_id(fleet, name) for name in (*two, third))
    change(fleet, link, b, a)
    change(fleet, link, c, b)
    assert points(bot, third) == 15
    change(fleet, unlink, a)
    assert [points(bot, name) for name in (*two, third)] == [5, 10, 10]


def test_who_is_one_person_already_is_not_linked_and_who_is_alone_not_unlinked(fleet, two):
    a, b = (own_id(fleet, name) for name in two)
    with pytest.raises(NotLinked), fleet.database.transaction() as db:
        unlink(db, a)
    change(fleet, link, a, b)
    with pytest.raises(SamePerson), fleet.database.transaction() as db:
        link(db, b, a)


# Labels


def label(fleet, bot, name: str, what: str, ends: str | None = None) -> None:
    number = own_id(fleet, name)
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO labels_of_people (community_id, own_id, name, expires_at)"
            " VALUES (%s, %s, %s, now() + %s::interval)",
            (bot.community_id, number, what, ends),
        )
    service_bus(fleet).invalidate(LABELS, f"{bot.community_id}:{number}")


def permit(fleet, bot, **lists: list[str]) -> None:
    body = {"command": "!stub", "permissions": lists}
    done = fleet.request("PUT", f"/router/communities/{bot.slug}/permissions", body)
    assert done.status == 200, done.body


def test_labels_are_in_the_call_until_they_end(fleet, bot, stub, two):
    label(fleet, bot, two[0], "regular")
    label(fleet, bot, two[0], "winner", "1 hour")
    label(fleet, bot, two[0], "loser", "-1 second")
    bot.say("!stub", by=two[0])
    assert stub.calls[-1]["user"]["labels"] == ["regular", "winner"]


def test_a_label_of_one_account_is_known_of_the_others_at_once(fleet, bot, stub, two):
    a, b = two
    change(fleet, link, own_id(fleet, a), own_id(fleet, b))
    bot.say("hello", by=a)
    label(fleet, bot, b, "regular")
    bot.say("!stub", by=a)
    assert stub.calls[-1]["user"]["labels"] == ["regular"]


def test_a_label_counts_in_its_own_community_only(fleet, bot, stub, two):
    label(fleet, bot, two[0], "regular")
    other = fleet.bot()
    other.install("stub")
    other.say("!stub", by=two[0])
    assert stub.calls[-1]["user"]["labels"] == []


def test_a_command_can_be_denied_to_a_label_and_allowed_to_another(fleet, bot, stub, two):
    stub.reset(lambda call: reply_to(call, chat("hello")))
    permit(fleet, bot, deny=["label:Muted"])
    assert bot.say("!stub", by=two[0]).statuses == ["success"]
    label(fleet, bot, two[0], "muted")
    refused = bot.say("!stub", by=two[0])
    assert refused.statuses == ["denied"]
    assert "labelled muted" in refused.chat
