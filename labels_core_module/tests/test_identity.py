"""One person, several accounts: proved in chat from both sides, counted together, parted to the point."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.base.ids import new_id
from waddlebot.community.directory import add_server
from waddlebot.testing.plugin import eventually


class Account:
    """Somebody's account on a platform, in a community that has a channel there."""

    def __init__(self, bot, platform: str, *, level: str = "") -> None:
        self.bot, self.platform = bot, platform
        self.id = platform[:1] + new_id().replace("-", "")[-20:]
        self.badges = [level] if level else []

    def submit(self, text: str, **more):
        key = self.bot.fleet.keys["console" if self.platform == "console" else self.platform]
        where = {"console": (self.bot.slug, "general"), "twitch": ("", self.bot.slug)}
        server, channel = where.get(self.platform, (self.bot.slug, "c1"))
        event = {
            **self.bot.event(text),
            "platform": self.platform,
            "server_id": server,
            "channel_id": channel,
            "user": {"platform_user_id": self.id, "name": self.id, "display_name": self.id, "badges": self.badges},
            **more,
        }
        answer = self.bot.fleet.request("POST", "/router/events", event, key=key)
        assert answer.status == 200, answer.body
        return answer.json()

    def say(self, text: str) -> str:
        said = [each["response_data"]["message"] for each in self.submit(text)["responses"]]
        return "\n".join(said).lstrip("\u200b")

    @property
    def number(self) -> int:
        sql = "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s"
        return self.bot.fleet.database.statement(sql, (self.platform, self.id))[0]["user_id"]

    @property
    def points(self) -> int:
        path = f"/router/reputation/{self.bot.slug}/{self.number}"
        return int(self.bot.fleet.request("GET", path, key="admin").json()["current_score"])


@pytest.fixture
def community(fleet, bot):
    """A community with a channel on every platform."""
    with fleet.database.transaction() as db:
        add_server(db, "twitch", bot.slug, community=bot.slug)
        add_server(db, "discord", "c1", server_id=bot.slug, community=bot.slug)
        add_server(db, "slack", "c1", server_id=bot.slug, community=bot.slug)
    return bot


def code_of(account: Account) -> str:
    return re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}", account.say("!link"))[0]


def linked(a: Account, b: Account) -> None:
    code = code_of(a)
    assert f"as {a.id}" in b.say(f"!verify {code.lower()}")
    assert "one person now" in a.say("!link confirm")


def test_who_links_counts_together_everywhere_and_apart_again_to_the_point(community, fleet):
    pip, also = Account(community, "twitch"), Account(community, "discord", level="manage_messages")
    pip.say("hello")
    also.say("hello")
    also.say("hello again")
    before = pip.points, also.points
    fleet.request(
        "POST",
        "/labels/apply",
        {
            "label": "regular",
            "subject_type": "user",
            "subject_id": also.number,
            "community_id": community.slug,
        },
    )
    linked(pip, also)
    assert pip.points == also.points >= sum(before)
    said = pip.say("!whoami")
    assert f"You are {pip.id} on Twitch, and also {also.id} on Discord." in said
    assert "labels: regular" in said
    own = fleet.database.statement(
        "SELECT user_id, current_score FROM user_reputation WHERE community_id = %s AND user_id = ANY(%s)",
        (community.community_id, [pip.number, also.number]),
    )
    earned = {row["user_id"]: row["current_score"] for row in own}
    assert pip.points == sum(earned.values())
    assert "of its own again" in pip.say("!unlink")
    # Saying !unlink earned something, too.
    assert (pip.points, also.points) == (earned[pip.number] + 5, earned[also.number])
    assert "labels" not in pip.say("!whoami")
    assert "labels: regular" in also.say("!whoami")
    assert "not linked" in pip.say("!unlink")


def test_who_earns_while_accounts_are_linked_and_parted_keeps_their_own(community, fleet):
    pip, also = Account(community, "twitch"), Account(community, "discord")
    for each in (pip, also):
        each.say("hello")
    pair = {"own_ids": [also.number, pip.number], "reason": "test"}
    with ThreadPoolExecutor(6) as pool:
        lines = [pool.submit(each.say, f"line {n}") for n in range(30) for each in (pip, also)]
        for _ in range(3):
            link = fleet.request("POST", "/labels/links", pair, key="admin").json()["link_id"]
            assert pip.points % 5 == 0
            assert fleet.request("DELETE", f"/labels/links/{link}", key="admin").status == 200
        for each in lines:
            each.result()
    assert (pip.points, also.points) == (31 * 5, 31 * 5)
    link = fleet.request("POST", "/labels/links", pair, key="admin").json()["link_id"]
    assert pip.points == also.points == 62 * 5
    fleet.request("DELETE", f"/labels/links/{link}", key="admin")
    assert (pip.points, also.points) == (31 * 5, 31 * 5)


def test_a_code_alone_is_worth_nothing(community):
    pip, thief = Account(community, "twitch"), Account(community, "discord")
    code = code_of(pip)
    assert "nothing to confirm" in pip.say("!link confirm")
    thief.say(f"!verify {code}")
    assert "nothing to confirm" in thief.say("!link confirm")
    assert "and also" not in thief.say("!whoami")


def test_a_stolen_code_shows_and_is_confirmed_by_name_only(community):
    pip, own, thief = (Account(community, each) for each in ("twitch", "slack", "discord"))
    code = code_of(pip)
    assert "Now say" in thief.say(f"!verify {code}")
    assert "not valid" in own.say(f"!verify {code}")
    assert "Others tried your code" in pip.say("!link confirm")
    assert "claimed by" in pip.say(f"!link confirm {own.id}")
    assert "and also" not in pip.say("!whoami")
    linked(pip, own)


def test_what_is_wrong_with_a_code_is_not_told_apart_and_tries_are_few(community, fleet):
    pip, same, other = Account(community, "twitch"), Account(community, "twitch"), Account(community, "slack")
    code = code_of(pip)
    own = pip.say(f"!verify {code}")
    assert own == same.say(f"!verify {code}") == other.say("!verify AAAA-AAAA")
    assert "not valid here" in own
    old = code
    code = code_of(pip)
    assert other.say(f"!verify {old}") == own
    fleet.database.statement("UPDATE link_codes SET expires_at = now() WHERE own_id = %s", (pip.number,))
    assert other.say(f"!verify {code}") == own
    code = code_of(pip)
    assert other.say("!verify BBBB-BBBB") == other.say("!verify CCCC-CCCC") == own
    assert "too many wrong codes" in other.say(f"!verify {code}")
    fleet.database.statement("DELETE FROM link_tries WHERE own_id = %s", (other.number,))
    assert "Now say" in other.say(f"!verify {code}")
    assert "one person" in pip.say("!link confirm")
    assert "nothing to confirm" in pip.say("!link confirm")
    hashes = fleet.database.statement("SELECT code_hash FROM link_codes WHERE own_id = %s", (pip.number,))
    assert not any(code in row["code_hash"] for row in hashes)
    code_of(pip)
    code_of(pip)
    assert "many codes" in pip.say("!link")


def test_of_two_who_claim_a_code_at_once_one_does(community):
    pip, rivals = Account(community, "twitch"), [Account(community, "slack") for _ in range(8)]
    for each in rivals:
        each.say("hello")
    code = code_of(pip)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda each: each.say(f"!verify {code}"), rivals))
    assert sum("Now say" in each for each in said) == 1
    assert "Others tried" in pip.say("!link confirm")


def test_an_admin_links_and_every_link_can_be_undone(community, fleet):
    a, b, c, d = accounts = [Account(community, each) for each in ("twitch", "discord", "slack", "console")]
    for each in accounts:
        each.say("hello")
    numbers = [each.number for each in accounts]

    def link(one, other, **more):
        body = {"own_ids": [one.number, other.number], "reason": "asked by mail", **more}
        return fleet.request("POST", "/labels/links", body, key="admin")

    link(b, a)
    link(d, c)
    made = link(c, a)
    assert (made.status, sorted(made.json()["own_ids"])) == (200, sorted(numbers))
    assert {each.points for each in accounts} == {20}
    assert link(a, d).json()["error"]["code"] == "same_person"
    assert link(a, b, own_ids=[a.number, 2**60]).status == 404
    listed = fleet.request("GET", "/labels/links", key="admin", query={"own_id": d.number}).json()["links"]
    assert [each["reason"] for each in listed] == ["asked by mail"] * 2
    path = f"/labels/links/{made.json()['link_id']}"
    assert fleet.request("DELETE", path, key="admin").status == 200
    # The two that came together stay together.
    assert [each.points for each in accounts] == [10] * 4
    assert fleet.request("DELETE", path, key="admin").status == 404
    audit = fleet.request("GET", "/router/audit", key="admin", query={"module": "labels_core", "limit": 1}).json()
    assert audit["audit"][0]["action"] == "accounts_parted"
    undone = fleet.request("POST", f"/router/audit/{audit['audit'][0]['id']}/undo", {}, key="admin")
    assert undone.status == 200, undone.body
    assert {each.points for each in accounts} == {20}


def orders(bot) -> list[tuple]:
    sql = "SELECT entity_id, response_data AS data FROM outbox WHERE community_id = %s AND response_action = 'moderate'"
    rows = bot.fleet.database.statement(sql + " ORDER BY id", (bot.community_id,))
    return [(r["entity_id"], r["data"]["action"], r["data"]["platform_user_id"], r["data"]["duration_s"]) for r in rows]


def test_bans_follow_where_the_owner_wants_that_and_come_back_no_more(community, fleet):
    pip, also, other = (Account(community, each) for each in ("twitch", "discord", "slack"))
    for each in (pip, also, other):
        each.say("hello")
    pairs = [(pip, also), (other, pip)]
    for one, two in pairs:
        body = {"own_ids": [one.number, two.number], "reason": "test"}
        assert fleet.request("POST", "/labels/links", body, key="admin").status == 200
    pip.submit("", message_type="ban", data={"reason": "spam"})
    assert orders(community) == []
    path = f"/router/communities/{community.slug}/modules/labels_core"
    assert fleet.request("PUT", path, {"config": {"bans_follow": True}}).status == 200
    pip.submit("", message_type="timeout", data={"duration_s": 60})
    place = f"discord:{community.slug}:"
    eventually(lambda: orders(community) == [(place, "timeout", also.id, 60)])
    # What Discord tells of it then is our own doing.
    assert also.submit("", message_type="timeout", data={})["executions"][0]["status"] == "success"
    assert len(orders(community)) == 1
